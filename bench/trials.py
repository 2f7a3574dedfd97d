"""Trials: one fresh process each, started here, ended here when it hangs, timed from here."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from peers.clock import peak_bytes

from headway.base.machine import this_machine

THREADS = 2
HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
HEADWAY = str(Path(sys.executable).with_name("headway"))
LIMIT_S = 300  # of a trial: a peer that hangs is not waited for
WARM_STEPS = 2  # not timed, for anybody: a compiler meets its second shape in the second step
# Where runs have to compute alike: on a busy machine, those that decide by measuring may not.
NUMBER_FORMAT = "--bf16" if this_machine().fast_in_bf16 else "--no-bf16"
_POLL_S = 0.1
# Never inherited: what comes from here is said for each contender.
_OURS = ("HEADWAY", "PYTHON", "LD_PRELOAD", "MALLOC_", "TCMALLOC", "OMP_", "TORCH")

Figures = dict[str, float]


class TrialError(Exception):
    """A trial that came to nothing; the message says why, in one line first."""


@dataclass(frozen=True)
class Steps:
    """What the steps of a trial were; every contender writes it down."""

    ends: Sequence[float]  # seconds since 1970, when the update had reached the weights
    trained: Sequence[int]  # tokens that were trained
    positions: Sequence[int]  # tokens that were computed, padding included
    losses: Sequence[float]  # nats per trained token
    peak_bytes: int = 0  # the most that the process held before its last save; 0: not known


def rate(steps: Steps, counts: Sequence[int], warm: int = WARM_STEPS) -> float:
    """Tokens per second from the end of the last warm-up step to the end of the last step.

    Everything between two steps counts, batches and bookkeeping included; starting up does not.

    Args:
        steps: of a trial.
        counts: tokens of each step.
        warm: steps that are not timed.
    """
    return sum(counts[warm:]) / (steps.ends[-1] - steps.ends[warm - 1])


def environment(cache: Path) -> dict[str, str]:
    """What every process gets: the same threads, a cache of its own, no network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    return kept | {
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(THREADS),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TOKENIZERS_PARALLELISM": "true",
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    }


def run(
    command: Sequence[str],
    folder: Path,
    cache: Path,
    *,
    more: Mapping[str, str] | None = None,
    watch: Callable[[int], None] | None = None,
    limit_s: float | None = None,
) -> str:
    """Run to the end; its standard output.

    Args:
        command: what is typed.
        folder: where.
        cache: what it may call its cache.
        more: of its environment.
        watch: is told the process id, again and again while it runs.
        limit_s: it is ended after this many seconds; `LIMIT_S` where nothing is said.

    Raises:
        TrialError: it failed, or it did not end in time. A measurement of something broken is none.
    """
    with (cache.parent / "stdout").open("w+") as out, (cache.parent / "stderr").open("w+") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(cache) | dict(more or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            _wait(process, watch, limit_s or LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().strip()
            raise TrialError(
                f"failed with exit code {process.returncode}: {_why(said)}\n"
                f"{' '.join(command)}\n{said[-3000:]}"
            )
        return out.read()


def _why(said: str) -> str:
    """The line of an error that names it: the last of a traceback, the first of anything else."""
    lines = said.splitlines() or ["it said nothing"]
    return lines[-1 if "Traceback" in said else 0]


def _wait(
    process: subprocess.Popen[bytes], watch: Callable[[int], None] | None, limit_s: float
) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S if watch else limit_s)
            return
        if time.monotonic() > end_s or not watch:
            raise TrialError(f"did not finish in {limit_s:g} s")
        watch(process.pid)


class CpuWatch:
    """Seconds of all cores that a process and those below it used, at any time: a `watch`."""

    _EVERY_S = 0.2

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []  # seconds since 1970, and of cores

    def __call__(self, pid: int) -> None:
        """Look once."""
        now_s = time.time()
        if self._seen and now_s < self._seen[-1][0] + self._EVERY_S:
            return
        used_s = 0.0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    used_s += sum(process.cpu_times()[:4])  # with children that have ended
            self.saw(now_s, used_s)

    def saw(self, at_s: float, used_s: float) -> None:
        """Take down what was used so far."""
        self._seen.append((at_s, used_s))

    def used_s(self, begin_s: float, end_s: float) -> float:
        """Seconds of cores between two moments, straight lines between two looks.

        Raises:
            TrialError: nobody looked before the one or after the other.
        """
        return self._at(end_s) - self._at(begin_s)

    def _at(self, moment_s: float) -> float:
        for (before_s, before), (after_s, after) in pairwise(self._seen):
            if before_s <= moment_s <= after_s:
                return before + (after - before) * (moment_s - before_s) / (after_s - before_s)
        raise TrialError("nobody looked at the time of its cores")


def peer(
    script: str,
    words: Sequence[str],
    folder: Path,
    trial: Path,
    *,
    more: Mapping[str, str] | None = None,
    python: str = sys.executable,
    launcher: Sequence[str] = (),
    limit_s: float = LIMIT_S,
    watch: Callable[[int], None] | None = None,
) -> tuple[float, Steps]:
    """One trial of a script in peers/: when it was started, and its steps.

    Args:
        script: its name.
        words: what is typed after the folder and the file for its result.
        folder: of the work.
        trial: an empty folder.
        more: of its environment.
        python: that runs it.
        launcher: what Python runs instead, with the script as its first word.
        limit_s: it is ended after this many seconds.
        watch: is told the process id, again and again.

    Raises:
        TrialError: it failed, or it did not end in time.
    """
    result = trial / "result.json"
    command = [python, *launcher, str(PEERS / script), str(folder), str(result), *words]
    started = time.time()
    run(command, folder, trial / "cache", more=more, watch=watch, limit_s=limit_s)
    return started, Steps(**json.loads(result.read_text()))


def headway(
    words: Sequence[str],
    folder: Path,
    trial: Path,
    *,
    more: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
    cache: Path | None = None,
    watch: Callable[[int], None] | None = None,
) -> tuple[float, Steps]:
    """One trial of `headway train`: when it was started, and its steps.

    Args:
        words: what is typed after it.
        folder: where.
        trial: an empty folder for the run.
        more: of its environment.
        limit_s: it is ended after this many seconds.
        cache: what it may call its cache; nothing is in it, where nothing is said.
        watch: is told the process id, again and again.

    Raises:
        TrialError: it failed, or it did not end in time, or its contract is broken.
    """
    memory = _Memory(trial / "bench" / "events.jsonl")

    def look(pid: int) -> None:
        memory(pid)
        if watch:
            watch(pid)

    command = [HEADWAY, "train", *words, "--output-dir", str(trial), "--run-name", "bench"]
    started = time.time()
    (trial / "cache").mkdir(exist_ok=True)
    run(command, folder, cache or trial / "cache", more=more, watch=look, limit_s=limit_s)
    receipt = json.loads((trial / "bench" / "receipt.json").read_text())
    if receipt["contract"]["verdict"] != "kept":
        raise TrialError(receipt["line"])
    done = _steps_done(memory.log)
    steps = Steps(
        ends=[datetime.fromisoformat(entry["at"]).timestamp() for entry in done],
        trained=[entry["trained_tokens"] for entry in done],
        positions=[entry["computed_tokens"] for entry in done],
        losses=[entry["loss"] for entry in done],
        peak_bytes=memory.peak_bytes,
    )
    return started, steps


def _steps_done(log: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "step_done"]


class _Memory:
    """The most memory the trainer's process held while nothing had been saved yet."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.peak_bytes = 0
        self._trainer: psutil.Process | None = None

    def __call__(self, pid: int) -> None:
        """Look once."""
        with contextlib.suppress(psutil.Error, OSError):
            self._trainer = self._trainer or _trainer_of(pid)
            if self._trainer is None:
                return
            peak = peak_bytes(self._trainer.pid)
            # What is read before the log is, is from before the save that the log tells of.
            if '"phase":"saving"' not in self.log.read_text():
                self.peak_bytes = peak


def _trainer_of(pid: int) -> psutil.Process | None:
    for child in psutil.Process(pid).children(recursive=True):
        if "headway.training.worker" in child.cmdline():
            return child
    return None


def seconds(words: Sequence[str], folder: Path, cache: Path) -> float:
    """How long a headway command takes, from its start to its end."""
    began_s = time.perf_counter()
    run([HEADWAY, *words], folder, cache)
    return time.perf_counter() - began_s


def first_line_s(words: Sequence[str], folder: Path, cache: Path) -> float:
    """How long a headway command on a terminal takes to its first whole line; then it is ended."""
    screen, terminal = pty.openpty()
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [HEADWAY, *words],
        cwd=folder,
        env=environment(cache),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        seen = b""
        while b"\n" not in seen:
            seen += os.read(screen, 4096)
        took_s = time.perf_counter() - began_s
    finally:
        process.send_signal(signal.SIGINT)
        _drain(screen)
        process.wait(LIMIT_S)
        os.close(screen)
    return took_s


def _drain(screen: int) -> None:
    """Read until the last process has left the terminal, so that none is there for the next."""
    try:
        while os.read(screen, 4096):
            pass
    except OSError:  # how Linux says that the other end is closed
        pass
