"""Cost of headway guard: scripts with and without it, alternating.

Usage:
    python bench/guard_cost.py [ROUNDS]    writes bench/results/DATE-guard-cost.json

Each script does a fixed amount of work and prints how long it took, by its own clock, so that
starting the guard is no part of it. The guard's own processor time is counted as well: it is what
the script loses where no core is free; starting the guard is in that.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from headway.base.host.contention import cpu_times, other_work
from headway.base.machine import this_machine

RESULTS = Path(__file__).parent / "results"
TIMED = """
import sys, time
def timed(work):
    began, used = time.perf_counter(), time.process_time()
    work()
    spent = time.perf_counter() - began, time.process_time() - used
    print("TIMED", *spent, file=sys.stderr, flush=True)
"""
SCRIPTS = {
    "computing": """
def work():
    total = 0
    for number in range(60_000_000):
        total += number * number
timed(work)
""",
    "a line for each of 400 steps": """
def work():
    for step in range(400):
        total = 0
        for number in range(150_000):
            total += number * number
        print({"loss": 2.5 - step / 400, "learning_rate": 1e-4, "epoch": step / 400}, flush=True)
timed(work)
""",
    "chatty: 300,000 lines": """
def work():
    for step in range(300_000):
        print("step", step, "loss", 2.5 - step / 300_000, "lr 0.0001")
timed(work)
""",
}


@dataclass(frozen=True)
class GuardTrial:
    """One run of a script.

    Attributes:
        seconds: by its own clock.
        other_cpu_s: of a processor, for all but its work: starting it, and the guard.
    """

    seconds: float
    other_cpu_s: float


def main(rounds: int = 5) -> None:
    """Measure and write the file."""
    before, began_s = cpu_times(), time.time()
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, script in SCRIPTS.items():
            (folder / "script.py").write_text(TIMED + script)
            plain: list[GuardTrial] = []
            guarded: list[GuardTrial] = []
            for number in range(rounds):
                pairs = [(plain, ()), (guarded, ("-m", "headway", "guard", "--", sys.executable))]
                for trials, words in pairs if number % 2 else reversed(pairs):
                    trials.append(trial(folder, words))
            found[title] = {
                "without": [asdict(one) for one in plain],
                "with": [asdict(one) for one in guarded],
                "times": median(one.seconds for one in guarded)
                / median(one.seconds for one in plain),
                "guard_cpu_share": (
                    median(one.other_cpu_s for one in guarded)
                    - median(one.other_cpu_s for one in plain)
                )
                / median(one.seconds for one in plain),
            }
            print(title, {k: v for k, v in found[title].items() if k not in ("with", "without")})
    others = other_work(before, cpu_times())
    result = {
        "what": "scripts with and without headway guard, output to a pipe",
        "at": datetime.fromtimestamp(began_s, UTC).isoformat(),
        "machine": this_machine().cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "other_cores_busy": others.other_cores if others else None,
        "rounds": rounds,
        "scripts": found,
    }
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-guard-cost.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


def trial(folder: Path, words: tuple[str, ...]) -> GuardTrial:
    """Run the script, by itself or under the guard; all output is read."""
    used = _children_s()
    command = [sys.executable, *words, "script.py"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    line = next(line for line in ran.stderr.splitlines() if line.startswith("TIMED"))
    seconds, cpu_s = map(float, line.split()[1:])
    return GuardTrial(seconds, _children_s() - used - cpu_s)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
