"""What watching costs: steps with pulses, events, checks and a supervisor, and without them.

    python bench/overhead.py             results/DATE-overhead.json, on a quiet machine
    python bench/overhead.py --rounds 3  fewer rounds
    python bench/overhead.py --quick     few steps of the smallest preset; prints, writes nothing

Three figures for each shape. In one process, steps with watching and without it alternate (on off
off on), and the medians are compared: that is what the training thread pays. The supervisor is a
process of its own: what it takes from the cores is read from the system while a real run trains.
A Trainer's steps with HeadwayCallback and without are medians of whole runs, turn by turn; beside
them stands the share that the callback itself measured.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import report
from inputs import copy_sources
from trials import HEADWAY, HERE, PEERS, THREADS, run

LENGTH = 256
LIMIT_S = 3600


@dataclass(frozen=True)
class Shape:
    """A preset, what a step is, how many of them, and the most that watching may cost."""

    preset: str
    batch: int
    steps: int
    target: float  # of step time


MINI = Shape("mini", batch=8, steps=203, target=0.01)
BASE = Shape("base", batch=4, steps=43, target=0.005)
TINY = Shape("tiny", batch=4, steps=23, target=0.01)


def main() -> None:
    """Measure, print, write a dated result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    shapes, rounds = ((TINY,), 1) if asked.quick else ((MINI, BASE), asked.rounds)
    load = os.getloadavg()
    measured: dict[str, Any] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory() as name:
            measured[shape.preset] = shape_measured(Path(name), shape, rounds)
        print(json.dumps({shape.preset: measured[shape.preset]["shares"]}, indent=2), flush=True)
        told = {
            "schema": "headway.bench-overhead/1",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": report.machine(),
            "versions": report.versions(),
            "load_before": load,
            "rounds": rounds,
            "shapes": measured,
        }
        if not asked.quick:  # after each shape: who cuts it short keeps what was measured
            file = HERE / "results" / f"{told['at'][:10]}-overhead.json"
            file.write_text(json.dumps(told, indent=2) + "\n")


def shape_measured(folder: Path, shape: Shape, rounds: int) -> dict[str, Any]:
    """All figures of one shape."""
    copy_sources(folder / "data", 4_000_000)
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for number in range(rounds):
        trial = folder / f"trial-{number}"
        trial.mkdir()
        ours.append(steps_share(folder, trial, shape) | supervisor_share(folder, trial, shape))
        theirs.append(callback_share(folder, trial, shape))
        print(json.dumps({"headway": ours[-1], "callback": theirs[-1]}), flush=True)
    shares = {name: _spread([one[name] for one in ours]) for name in ours[0]}
    shares |= {name: _spread([one[name] for one in theirs]) for name in theirs[0]}
    total = shares["training thread"]["median"] + shares["supervisor"]["median"]
    return {
        "preset": shape.preset,
        "batch": shape.batch,
        "steps": shape.steps,
        "target": shape.target,
        "met": total <= shape.target and shares["callback"]["median"] <= shape.target,
        "shares": shares,
        "trials": {"headway": ours, "callback": theirs},
    }


def _words(shape: Shape) -> list[str]:
    words = ["data", "--preset", shape.preset, "--max-steps", str(shape.steps)]
    words += ["--batch-size", str(shape.batch), "--max-length", str(LENGTH)]
    return [*words, "--threads", str(THREADS), "--nproc", "1", "--device", "cpu"]


def steps_share(folder: Path, trial: Path, shape: Shape) -> dict[str, float]:
    """What the training thread pays, as a share of a step without watching."""
    planned, result = trial / "planned", trial / "steps.json"
    run([HEADWAY, "plan", *_words(shape), "--save", str(planned)], folder, trial / "cache")
    script = str(PEERS / "watched_steps.py")
    run(
        [sys.executable, script, str(planned), str(result)],
        folder,
        trial / "cache",
        limit_s=LIMIT_S,
    )
    told = json.loads(result.read_text())
    off_s = statistics.median(told["off"])
    return {
        "training thread": statistics.median(told["on"]) / off_s - 1,
        "step, s": off_s,
    }


class SupervisorWatch:
    """Core seconds of a command's first process, and of those below it that train nothing."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []  # seconds of a clock, and of cores

    def __call__(self, pid: int) -> None:
        """Look once."""
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            self.seen.append((datetime.now(UTC).timestamp(), times.user + times.system))

    def share(self, begin_s: float, end_s: float) -> float:
        """Cores that it took between two moments."""
        within = [one for one in self.seen if begin_s <= one[0] <= end_s]
        (first_s, first), (last_s, last) = within[0], within[-1]
        return (last - first) / (last_s - first_s)


def supervisor_share(folder: Path, trial: Path, shape: Shape) -> dict[str, float]:
    """What the supervisor takes of the cores that train, while they train."""
    watch = SupervisorWatch()
    place = ["--output-dir", str(trial), "--run-name", "whole"]
    run(
        [HEADWAY, "train", *_words(shape), *place],
        folder,
        trial / "cache",
        watch=watch,
        limit_s=LIMIT_S,
    )
    lines = (trial / "whole" / "events.jsonl").read_text().splitlines()
    steps = [one for one in map(json.loads, lines) if one["event"] == "step_done"]
    begin_s, end_s = (
        datetime.fromisoformat(one["at"]).timestamp() for one in (steps[0], steps[-1])
    )
    receipt = json.loads((trial / "whole" / "receipt.json").read_text())
    by_phase = receipt["time"]["by_phase"]
    checks = ("probing", "auditing the weights", "checking the packing")
    return {
        "supervisor": watch.share(begin_s, end_s) / THREADS,
        "checks once per run, s": sum(by_phase.get(name, 0.0) for name in checks),
    }


def callback_share(folder: Path, trial: Path, shape: Shape) -> dict[str, float]:
    """What HeadwayCallback costs a Trainer, as a share of a step without it."""
    medians: dict[bool, float] = {}
    own = 0.0
    for has_callback in (False, True):
        result = trial / f"callback-{has_callback}.json"
        words = ["--preset", shape.preset, "--steps", str(shape.steps), "--batch", str(shape.batch)]
        words += ["--callback"] if has_callback else []
        script = str(PEERS / "callback_steps.py")
        command = [sys.executable, script, str(result), *words]
        run(command, folder, trial / "cache", limit_s=LIMIT_S)
        told = json.loads(result.read_text())
        medians[has_callback] = statistics.median(told["steps"][2:])
        own = told.get("own share", own)
    return {
        "callback": medians[True] / medians[False] - 1,
        "callback, by itself": own,
        "Trainer's step, s": medians[False],
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = report.spread(values)
    return {"median": found.median, "min": found.min, "max": found.max}


if __name__ == "__main__":
    main()
