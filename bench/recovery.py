"""From the kill of a worker to the next finished step of its run."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from report import Figures
from trials import HEADWAY, LIMIT_S, TrialError, environment

NEXT_STEP, NEXT_START = "to the next step, s", "to the next attempt, s"
AGAIN, COMMANDS = "finished steps taken again", "commands"
KILLED_AFTER = 3  # finished steps
_MOST_COMMANDS = 3
_POLL_S = 0.05


def recovery(words: Sequence[str], folder: Path, trial: Path, rank: int) -> Figures:
    """Start a run, kill one of its workers, wait for a step that was not finished before.

    Where the run does not go on by itself, the same command is started again, at once.

    Args:
        words: what is typed after `headway train`.
        folder: where.
        trial: an empty folder for the run.
        rank: of the worker that is killed.

    Raises:
        TrialError: no further step was finished.
    """
    command = [HEADWAY, "train", *words, "--output-dir", str(trial), "--run-name", "bench"]
    log = trial / "bench" / "events.jsonl"
    with (trial / "output").open("w") as output, contextlib.ExitStack() as started:

        def start() -> "subprocess.Popen[bytes]":
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(trial / "cache"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            started.callback(_end, process)
            return process

        process, commands = start(), 1
        end_s = time.monotonic() + LIMIT_S
        while len(steps_of(entries_of(log))) < KILLED_AFTER:
            _still_time(end_s, trial, is_over=process.poll() is not None)
        killed_s = time.time()
        os.kill(_worker(process.pid, rank), signal.SIGKILL)
        end_s = time.monotonic() + LIMIT_S
        while (found := since_kill(entries_of(log), killed_s)) is None:
            if process.poll() is not None:
                commands += 1
                _still_time(end_s, trial, is_over=commands > _MOST_COMMANDS)
                process = start()
            _still_time(end_s, trial, is_over=False)
        return found | {COMMANDS: commands}


def _still_time(end_s: float, trial: Path, *, is_over: bool) -> None:
    """Wait a moment.

    Raises:
        TrialError: it is over, or the limit is.
    """
    if is_over or time.monotonic() > end_s:
        said = (trial / "output").read_text(errors="replace")[-2000:]
        raise TrialError(f"no further step was finished\n{said}")
    time.sleep(_POLL_S)


def since_kill(entries: Sequence[dict[str, Any]], killed_s: float) -> Figures | None:
    """What came after the kill; None while there is no new step.

    Args:
        entries: of the log.
        killed_s: seconds since 1970.
    """
    before = [entry for entry in entries if _at_s(entry) <= killed_s]
    attempt = max(entry["attempt"] for entry in before)
    # A step that was only to be told has no part of the recovery.
    last = max(entry["step"] for entry in steps_of(entries) if entry["attempt"] <= attempt)
    later = [entry for entry in entries if entry["attempt"] > attempt]
    new = [entry for entry in steps_of(later) if entry["step"] > last]
    if not new:
        return None
    return {
        NEXT_STEP: _at_s(new[0]) - killed_s,
        NEXT_START: _at_s(later[0]) - killed_s,
        AGAIN: last + 1 - steps_of(later)[0]["step"],
    }


def steps_of(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of finished steps."""
    return [entry for entry in entries if entry["event"] == "step_done"]


def entries_of(log: Path) -> list[dict[str, Any]]:
    """The whole lines of a log so far."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _at_s(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"]).timestamp()


def _worker(supervisor: int, rank: int) -> int:
    """The process of a worker.

    Raises:
        TrialError: there is none.
    """
    for child in psutil.Process(supervisor).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if "--rank" in words and words[words.index("--rank") + 1] == str(rank):
                return child.pid
    raise TrialError(f"no worker {rank} is running")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a run with all its processes; it may have ended before."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
