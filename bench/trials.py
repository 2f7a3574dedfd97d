"""Trials: one fresh process each, started here and timed from here."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

THREADS = 2
HERE = Path(__file__).resolve().parent
HEADWAY = str(Path(sys.executable).with_name("headway"))
LIMIT_S = 300
_LAST = 10  # steps whose losses are averaged

Figures = dict[str, float]


@dataclass(frozen=True)
class Steps:
    """What each step of a trial was; both sides write it down."""

    ends: Sequence[float]  # seconds since 1970, when the update had reached the weights
    answers: Sequence[int]  # tokens that were trained
    positions: Sequence[int]  # tokens that were computed, padding included
    losses: Sequence[float]  # nats per trained token


def rate(steps: Steps, counts: Sequence[int]) -> float:
    """Tokens per second from the end of step 1 to the end of the last one.

    Everything between two steps counts, batches and bookkeeping included; starting up does not.
    """
    return sum(counts[1:]) / (steps.ends[-1] - steps.ends[0])


def last_loss(steps: Steps) -> float:
    """The mean loss of the last steps."""
    last = steps.losses[-_LAST:]
    return sum(last) / len(last)


def environment(cache: Path) -> dict[str, str]:
    """What every process gets: the same threads, a cache of its own, no network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADWAY", "PYTHON"))}
    return kept | {
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(THREADS),
        "TOKENIZERS_PARALLELISM": "true",
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    }


def run(command: Sequence[str], folder: Path, cache: Path) -> str:
    """Run to the end; its standard output.

    Raises:
        SystemExit: it failed. A measurement of something broken is none.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(cache),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def trainer(script: str, words: Sequence[str], folder: Path, trial: Path) -> tuple[float, Steps]:
    """One trial of a Trainer script: when it was started, and its steps."""
    script_path = str(HERE / script)
    result = trial / "result.json"
    started = time.time()
    run([sys.executable, script_path, *words[:3], str(result), *words[3:]], folder, trial / "cache")
    return started, Steps(**json.loads(result.read_text()))


def headway(words: Sequence[str], folder: Path, trial: Path) -> tuple[float, Steps]:
    """One trial of `headway train`: when it was started, and its steps."""
    started = time.time()
    command = [HEADWAY, "train", *words, "--output-dir", str(trial), "--run-name", "bench"]
    run(command, folder, trial / "cache")
    receipt = json.loads((trial / "bench" / "receipt.json").read_text())
    if receipt["contract"]["verdict"] != "kept":
        raise SystemExit(receipt["line"])
    return started, _headway_steps(trial / "bench" / "events.jsonl")


def _headway_steps(log: Path) -> Steps:
    entries: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    done = [entry for entry in entries if entry["event"] == "step_done"]
    return Steps(
        ends=[datetime.fromisoformat(entry["at"]).timestamp() for entry in done],
        answers=[entry["trained_tokens"] for entry in done],
        positions=[entry["computed_tokens"] for entry in done],
        losses=[entry["loss"] for entry in done],
    )


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
