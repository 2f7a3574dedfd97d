"""What durability costs: how long a save holds a step up, how soon a run goes on, what it writes.

    python bench/durability.py                   the demo's model
    python bench/durability.py --preset base     124M parameters, some 1.5 GB a save

Headway and transformers' Trainer train the same shape turn by turn and save the same state as
often; `stall_s` is the time of the training thread in which no step is taken. Nothing is synced
or read back by Trainer; Headway does both, beside the loop.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from inputs import copy_sources
from trials import HEADWAY, HERE, PEERS, environment, run

Figures = dict[str, float]


def main() -> None:
    """Measure, print, write a dated result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="to results/, for a quiet machine")
    asked = parser.parse_args()
    ours: list[Figures] = []
    theirs: list[Figures] = []
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_sources(folder / "data", 2_000_000)
        words = ["data", "--preset", asked.preset, "--max-steps", asked.steps]
        words += ["--save-steps", asked.every, "--batch-size", 4, "--max-length", 256]
        for number in range(asked.trials):
            trial = folder / f"trial-{number}"
            trial.mkdir()
            ours.append(headway([*map(str, words)], folder, trial))
            theirs.append(trainer(folder, trial))
            print(json.dumps({"headway": ours[-1], "trainer": theirs[-1]}), flush=True)
            told = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "preset": asked.preset,
                "steps": asked.steps,
                "save_every": asked.every,
                "machine": report.machine(),
                "versions": report.versions(),
                "load_before": load,
                "medians": _compared(ours, theirs),
                "trials": {"headway": ours, "trainer": theirs},
            }
            if asked.write:  # after every trial: who cuts it short keeps what was measured
                file = HERE / "results" / f"{told['at'][:10]}-durability-{asked.preset}.json"
                file.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(_compared(ours, theirs), indent=2))


def headway(words: Sequence[str], folder: Path, trial: Path) -> Figures:
    """One run to its end, and one that is killed after its first save and started again."""
    place = ["--output-dir", str(trial)]
    run([HEADWAY, "train", *words, *place, "--run-name", "whole"], folder, trial / "cache")
    events = _events(trial / "whole")
    saved = [e for e in events if e["event"] == "saved"]
    beside, alone = _steps(events)
    plan = json.loads((trial / "whole" / "plan.json").read_text())
    state = plan["saves"]["bytes_each"]
    return {
        "stall_s": statistics.median(e["stall"] for e in saved[:-1]),
        "longest_stall_s": max(e["stall"] for e in saved[:-1]),
        "save_s": statistics.median(e["seconds"] for e in saved),
        "step_s": alone,
        "step_beside_a_save_s": beside,
        "state_bytes": state,
        "bytes_of_state_bytes": saved[-1]["bytes"] / state,
        "resume_s": _resumed([*words, *place, "--run-name", "killed"], folder, trial),
    }


def trainer(folder: Path, trial: Path) -> Figures:
    """The same shape, saved as often."""
    plan = trial / "whole" / "plan.json"
    store = json.loads(plan.read_text())["data"]["store"]
    script = [str(PEERS / "trainer_saves.py"), str(plan), store, str(trial / "trainer")]
    run([sys.executable, *script], folder, trial / "cache")
    told: dict[str, Any] = json.loads((trial / "trainer" / "result.json").read_text())
    return {
        "stall_s": statistics.median(told["stalls"]),
        "longest_stall_s": max(told["stalls"]),
        "step_s": statistics.median(told["steps"]),
        "bytes": told["bytes"],
    }


def _resumed(words: Sequence[str], folder: Path, trial: Path) -> float:
    """From the same command typed again to its next finished step."""
    command = [HEADWAY, "train", *words]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(trial / "cache"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(e["event"] == "saved" for e in _events(trial / "killed")):
        if process.poll() is not None:
            raise SystemExit("it ended before its first save")
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)  # its trainer ends with it
    run(command, folder, trial / "cache")
    again = [e for e in _events(trial / "killed") if e["attempt"] == 2]
    return next(e["t"] for e in again if e["event"] == "step_done")


def _events(run: Path) -> list[dict[str, Any]]:
    file = run / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _steps(events: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Seconds of a step that was computed while a save was on its way, and of one that was not."""
    saves = [(e["t"] - e["seconds"], e["t"]) for e in events if e["event"] == "saved"]
    beside: list[float] = []
    alone: list[float] = []
    for step in [e for e in events if e["event"] == "step_done"][1:]:
        began, ended = step["t"] - step["seconds"], step["t"]
        busy = any(began < end and start < ended for start, end in saves)
        (beside if busy else alone).append(step["seconds"])
    return statistics.median(beside or [0.0]), statistics.median(alone or [0.0])


def _compared(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, Figures]:
    headway, trainer = _medians(ours), _medians(theirs)
    ratio = {"stall_s": headway["stall_s"] / trainer["stall_s"]}
    return {"headway": headway, "trainer": trainer, "ratio": ratio}


def _medians(trials: Sequence[Figures]) -> Figures:
    return {name: statistics.median(t[name] for t in trials) for name in trials[0]}


if __name__ == "__main__":
    main()
