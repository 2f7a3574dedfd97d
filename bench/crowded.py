"""How long a step takes beside other work: alone, and beside one process that keeps a core busy.

    python bench/crowded.py              results/DATE-crowded.json
    python bench/crowded.py --rounds 1   fewer rounds
    python bench/crowded.py --quick      few steps; prints, writes nothing
    python bench/crowded.py --wait 300   before each trial, wait up to 300 s for a quiet machine

Headway with threads that sleep while they wait (as it starts them), Headway with threads that spin
(OpenMP's own default), and transformers' Trainer as it comes take turns, each alone and beside one
busy loop of Python. Every trial is a process of its own; the figure is the median of its steps.
What else the machine did meanwhile is measured and written down. A trial in which others used more
than `QUIET_CORES` is listed, but counts only if its kind has no quieter one.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import median

from chats import WARM_UP
from contenders import Bench, Work
from inputs import copy_sources
from report import machine, versions
from text import LENGTH, SMALL
from trials import HERE, THREADS, WARM_STEPS, Steps, TrialError, headway, peer

from headway.base.host.contention import cpu_times, other_work, sample_other_work

QUIET_CORES = 0.4
WITHIN = 2.2  # times as long as alone: on two cores, half of what there is, and a little
BUSY = "while True: sum(range(1_000_000))"
SPINNING = {"GOMP_SPINCOUNT": "300000"}  # libgomp's own default
SLEEPING = "Headway"
SPINS = "Headway, spinning"
TRAINER = "Trainer"


@dataclass(frozen=True)
class Trial:
    """One process's steps.

    Attributes:
        who: took them.
        beside: how many busy processes it had beside it.
        step_s: the median step after the warm-up.
        others: cores that neither it nor the busy process used, but somebody did.
    """

    who: str
    beside: int
    step_s: float
    others: float


@contextlib.contextmanager
def busy(num: int) -> Iterator[tuple[int, ...]]:
    """Processes that each keep a core busy; their process numbers."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num)]
    try:
        yield tuple(loop.pid for loop in loops)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def contenders(work: Work, bench: Bench) -> dict[str, Callable[[Path], Steps]]:
    """Who takes part, and how each takes its steps in an empty folder."""
    num = bench.steps(6)
    words = ["text", "--preset", SMALL.preset, "--threads", str(THREADS), "--device", "cpu"]
    words += [*WARM_UP, "--max-length", str(LENGTH), "--batch-size", str(SMALL.batch)]
    words += ["--max-steps", str(num), "--save-steps", str(num), "--tokenizer", "tokenizer"]
    words += ["--no-torch-compile"]

    def ours(more: Mapping[str, str]) -> Callable[[Path], Steps]:
        return lambda folder: headway(words, work.folder, folder, more=more)[1]

    theirs = ["--steps", str(num), "--batch", str(SMALL.batch), "--bf16"]
    return {
        SLEEPING: ours({}),
        SPINS: ours(SPINNING),
        TRAINER: lambda folder: peer("trainer.py", theirs, work.folder, folder)[1],
    }


def wait_for_quiet(limit_s: float) -> None:
    """Wait until others leave the cores alone for a few seconds, at most `limit_s` seconds."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        other = sample_other_work((os.getpid(),), min(4.0, limit_s))
        if other is None or other.other_cores < QUIET_CORES:
            return


def measured(who: str, take: Callable[[Path], Steps], beside: int, folder: Path) -> Trial:
    """One trial."""
    with busy(beside), tempfile.TemporaryDirectory(dir=folder) as empty:
        before = cpu_times((os.getpid(),))
        steps = take(Path(empty))
        other = other_work(before, cpu_times((os.getpid(),)))
    ends = steps.ends[WARM_STEPS - 1 :]
    seconds = [after - end for end, after in pairwise(ends)]
    trial = Trial(who, beside, median(seconds), other.other_cores if other else 0.0)
    print(
        f"{who:18} {'beside one' if beside else 'alone':10} {trial.step_s:6.2f} s a step"
        f"   others: {trial.others:.1f} cores",
        flush=True,
    )
    return trial


def ratios(trials: list[Trial]) -> dict[str, dict[str, float]]:
    """How many times as long a step takes beside a busy process: of the medians, and at most."""
    found: dict[str, dict[str, float]] = {}
    for who in dict.fromkeys(trial.who for trial in trials):
        alone, crowded = (
            quiet([trial for trial in trials if (trial.who, trial.beside) == (who, beside)])
            for beside in (0, 1)
        )
        if not alone or not crowded:
            continue
        found[who] = {
            "alone_s": median(alone),
            "crowded_s": median(crowded),
            "ratio": median(crowded) / median(alone),
            "lowest": min(crowded) / max(alone),
            "highest": max(crowded) / min(alone),
            "trials": min(len(alone), len(crowded)),
        }
    return found


def quiet(trials: list[Trial]) -> list[float]:
    """The seconds a step of the trials that count."""
    counted = [trial for trial in trials if trial.others < QUIET_CORES]
    return [trial.step_s for trial in counted or sorted(trials, key=lambda one: one.others)[:1]]


def main(arguments: list[str]) -> int:
    """Measure, print, write; 0 if a crowded step takes at most `WITHIN` times as long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    load = os.getloadavg()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), asked.rounds, asked.quick)
        folder = bench.folder / SMALL.preset
        folder.mkdir()
        copy_sources(folder / "text", 1_000_000)
        words = ("--preset", SMALL.preset, "--max-length", str(LENGTH), *WARM_UP)
        words = (*words, "--batch-size", str(SMALL.batch))
        work = bench.work(SMALL.preset, "text", "text", words)
        taking_part = contenders(work, bench)
        for _ in range(asked.rounds):
            for who, take in taking_part.items():
                for beside in (0, 1):
                    wait_for_quiet(asked.wait)
                    try:
                        trials.append(measured(who, take, beside, bench.folder))
                    except TrialError as failure:
                        print(f"{who}: {failure}", file=sys.stderr)
            write(trials, load, asked)
    found = ratios(trials)
    for who, one in found.items():
        print(
            f"{who:18} {one['alone_s']:.2f} s alone, {one['crowded_s']:.2f} s beside one: "
            f"{one['ratio']:.2f} times ({one['lowest']:.2f} to {one['highest']:.2f})"
        )
    return 0 if SLEEPING in found and found[SLEEPING]["ratio"] <= WITHIN else 1


def write(trials: list[Trial], load: Sequence[float], asked: argparse.Namespace) -> None:
    """The dated file, after each round."""
    if asked.quick:
        return
    told = {
        "machine": machine(),
        "versions": versions(),
        "niceness": os.nice(0),
        "load_before": load,
        "load_after": os.getloadavg(),
        "within": WITHIN,
        "quiet_cores": QUIET_CORES,
        "preset": SMALL.preset,
        "rows": SMALL.batch,
        "length": LENGTH,
        "ratios": ratios(trials),
        "trials": [asdict(trial) for trial in trials],
    }
    path = HERE / "results" / f"{date.today().isoformat()}-crowded.json"
    path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
