"""What an inbox costs: until a first step, for many files beside one, for a commit, and idle.

    python bench/inbox.py                results/DATE-inbox.json, on a quiet machine
    python bench/inbox.py --files 40     40 files of 50 rows beside one of 2,000
    python bench/inbox.py --only many    only that
    python bench/inbox.py --quick        two files of each kind; prints, writes nothing

A first step is timed from the moment at which the writer closes the file to the end of the step,
by the clock that the daemon logs with. "Warm" is a file for a daemon that has trained one before;
"cold" one for a daemon that has nothing loaded. Many files, a folder of them (one job) and one file
hold the same rows, with the same batch, so the same number of steps; each is timed from the start
of the daemon to its end. What the start takes until the first file has its plan, imports above all,
is given apart, too. All of it is done for two models: a tiny one, whose steps take less than the
commits of a file, and a larger one, with fewer files. Where a file's time goes: medians over the
files, `each_file_s`.
A commit is what the queue makes durable for a file that is trained: claimed, begun, done.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import report
from inputs import chats
from trials import HEADWAY, HERE, environment

from headway.inbox.arriving.listing import look_at
from headway.inbox.folder import Disk, InboxFolder
from headway.inbox.jobs.inbox_job import Learned
from headway.inbox.jobs.queue import Queue

ROWS, BATCH = 50, 10  # of a file; rows of a step
PRESET, LARGER = "tiny", "mini"
FEWER = 20  # files of the tiny model for each file of the larger one
SETTINGS = f"batch_size: {BATCH}\nthreads: 1\nbf16: false\n"
LIMIT_S = 3600.0
_PR_SET_CHILD_SUBREAPER = 36
IDLE_S = 20.0  # over which an idle daemon is watched
Figures = dict[str, Any]


def main() -> None:
    """Measure, print, write a dated result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument(
        "--rounds", type=int, default=5, help="files of which a first step is timed"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["many"], help="prints, writes nothing")
    asked = parser.parse_args()
    num_files, rounds = (2, 2) if asked.quick else (asked.files, asked.rounds)
    adopt_orphans()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = chats(ROWS * max(num_files, rounds + 1)).splitlines(keepends=True)
        found: Figures = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "preset": PRESET,
            "rows_of_a_file": ROWS,
            "batch": BATCH,
            "machine": report.machine(),
            "versions": report.versions(),
            "load_before": load,
            "many_files": many_files(place, rows, num_files, PRESET),
            "many_files_larger": many_files(place, rows, max(2, num_files // FEWER), LARGER),
        }
        if not asked.only:
            found |= {
                "first_step_warm_s": first_steps(place / "warm", rows, rounds, idle_minutes=10.0),
                "first_step_cold_s": first_steps(place / "cold", rows, rounds, idle_minutes=0.0),
                "commits": commits(place / "commits", 20 if asked.quick else 300),
                "idle": idle(place / "idle", rows),
            }
    found["load_after"] = os.getloadavg()
    print(json.dumps(found, indent=2))
    if not asked.quick and not asked.only:
        file = HERE / "results" / f"{found['at'][:10]}-inbox.json"
        file.write_text(json.dumps(found, indent=2) + "\n")


# ---- from closing a file to its first step -----------------------------------------------------


def first_steps(place: Path, rows: Sequence[str], rounds: int, *, idle_minutes: float) -> Figures:
    """Drop one file after the other into an idle inbox."""
    inbox = made(place)
    found: list[Figures] = []
    with served(inbox, "--idle-minutes", str(idle_minutes)):
        for number in range(rounds + 1):
            time.sleep(2.0)
            own = rows[number * ROWS : (number + 1) * ROWS]
            closed_s = drop(inbox, f"{number:03}.jsonl", own)
            run = inbox / ".headway" / "runs" / f"{number + 1:04}-{number:03}"
            wait_for((inbox / "done" / f"{number:03}.jsonl").exists)
            events = events_of(run)
            if number:  # the first one of a daemon is neither warm nor typical
                found.append(parts(events, closed_s))
    totals = [one["first_step_s"] for one in found]
    return {"median": statistics.median(totals), "files": found}


def parts(events: Sequence[Figures], closed_s: float) -> Figures:
    """What the time from closing a file to its first step went into, seconds.

    Args:
        events: of its run.
        closed_s: when it was closed, since 1970.
    """
    first = next(event for event in events if event["event"] == "step_done")
    begun = next(event for event in events if event["event"] == "attempt_started")
    return {
        "first_step_s": at_s(first) - closed_s,
        "until_the_plan_s": at_s(begun) - closed_s,
        "from_the_plan_s": at_s(first) - at_s(begun),
    }


def at_s(event: Figures) -> float:
    """When an event was logged, seconds since 1970."""
    return time_s(event["at"])


# ---- many files beside one ---------------------------------------------------------------------


def many_files(place: Path, rows: Sequence[str], num: int, preset: str) -> Figures:
    """The same rows as many files, as a folder of these, and as one file, learned by a model."""
    many, one = made(place / f"{preset}-many"), made(place / f"{preset}-one")
    folder = made(place / f"{preset}-folder")
    (folder / "lessons.part").mkdir()
    for number in range(num):
        own = rows[number * ROWS : (number + 1) * ROWS]
        drop(many, f"{number:04}.jsonl", own)
        drop(folder / "lessons.part", f"{number:04}.jsonl", own)
    (folder / "lessons.part").rename(folder / "lessons")
    drop(one, "all.jsonl", rows[: num * ROWS])
    whole, together, files = learn(one, preset), learn(folder, preset), learn(many, preset)
    each = [spent(many, *pair) for pair in itertools.pairwise(runs_of(many))]
    return {
        "preset": preset,
        "files": num,
        "steps": num * ROWS // BATCH,
        "one_file": asdict(whole),
        "one_folder": asdict(together),
        "many_files": asdict(files),
        "more_in_a_folder": together.whole_s / whole.whole_s - 1,
        "more": files.whole_s / whole.whole_s - 1,
        "more_without_the_start": (files.whole_s - files.start_s) / (whole.whole_s - whole.start_s)
        - 1,
        "each_file_costs_s": (files.whole_s - whole.whole_s) / (num - 1),
        "each_file_costs_processor_s": (files.processor_s - whole.processor_s) / (num - 1),
        "each_file_s": {
            what: statistics.median(file[what] for file in each)
            for what in (each[0] if each else ())
        },
    }


@dataclass(frozen=True)
class Learning:
    """What it took to learn everything in an inbox, from the start of the daemon to its end.

    Attributes:
        whole_s: by the clock.
        start_s: of that, until the first file had its plan.
        processor_s: of all processes; other programs make it no longer, or by little.
    """

    whole_s: float
    start_s: float
    processor_s: float


def learn(inbox: Path, preset: str) -> Learning:
    """Learn everything in an inbox."""
    began_s, began_at_s, before_s = time.monotonic(), time.time(), children_s()
    subprocess.run(
        [HEADWAY, "inbox", "start", str(inbox), "--preset", preset, "--once", "--quiet"],
        env=environment(inbox.parent / "cache"),
        check=True,
        timeout=LIMIT_S,
        stdout=subprocess.DEVNULL,
    )
    spent_s = time.monotonic() - began_s
    start_s = at_s(events_of(runs_of(inbox)[0])[0]) - began_at_s
    return Learning(spent_s, start_s, children_s() - before_s)


def adopt_orphans() -> None:
    """Become the parent of processes whose own has ended: their time is counted with it (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_s() -> float:
    """Seconds of processor time of all processes that were started, once they have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def runs_of(inbox: Path) -> list[Path]:
    """The runs of an inbox, oldest first."""
    return sorted((inbox / ".headway" / "runs").iterdir())


def spent(inbox: Path, before: Path, run: Path) -> Figures:
    """What the time of a file went into, seconds, since the end of the one before it.

    The plan and the load happen at once, and so do the last save and the losses after the last
    step: `other` is what is left of the whole, less what was counted twice.
    """
    events, record = events_of(run), job_of(inbox, run)
    phases = json.loads((run / "receipt.json").read_text())["time"]["by_phase"]
    ended_s, measured_s = at_s(events[-1]), (run / "still_known.json").stat().st_mtime
    parts = {
        "steps": sum(event["seconds"] for event in events if event["event"] == "step_done"),
        "planning": at_s(events[0]) - time_s(record["claimed_at"]),
        "loading": phases["loading the model"],
        "trying_packing": phases["checking the packing"],
        "losses_before_and_after": phases["probing"] + phases.get("evaluating", 0.0),
        "saving": sum(event["seconds"] for event in events if event["event"] == "saved"),
        "auditing": phases["auditing the weights"],
    }
    whole_s = time_s(record["ended_at"]) - time_s(job_of(inbox, before)["ended_at"])
    apart = {"still_known_beside": measured_s - ended_s}  # while the next file is trained
    return {"whole": whole_s, **parts, "other": whole_s - sum(parts.values())} | apart


def job_of(inbox: Path, run: Path) -> Figures:
    """The record of a run's job."""
    (file,) = (inbox / ".headway" / "jobs").glob(f"{run.name.partition('-')[0]}*.json")
    return json.loads(file.read_text())


def time_s(text: str) -> float:
    """A time in a record, seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


# ---- durable commits ---------------------------------------------------------------------------


def commits(place: Path, num: int) -> Figures:
    """Files from the inbox to done/, with all but training, as fast as the disk takes them."""
    inbox = InboxFolder(place)
    inbox.make()
    for number in range(num):
        (inbox.path / f"{number:04}.txt").write_text(f"{number}\n")
    queue = Queue(inbox, Disk())
    learned = Learned(0, 1, 1, "unclear", None, None, "checkpoint-1", 0.0, "")
    began_s = time.monotonic()
    for number in range(num):
        job = queue.claim(look_at(inbox.path / f"{number:04}.txt"))
        assert job is not None
        (inbox.runs / job.run / "checkpoint-1").mkdir(parents=True)
        job = queue.begin_attempt(job, ())
        learned = replace(learned, first_step=number, last_step=number + 1)
        queue.settle(queue.finish(job, learned))
    spent_s = time.monotonic() - began_s
    queue.close()
    return {"files": num, "files_per_s": num / spent_s, "seconds_of_each": spent_s / num}


# ---- idle --------------------------------------------------------------------------------------


def idle(place: Path, rows: Sequence[str]) -> Figures:
    """Memory and processor time of a daemon without a file, warm, and after idle_minutes."""
    found: Figures = {}
    for name, minutes in (("warm", 60.0), ("released", 0.05)):
        inbox = made(place / name)
        with served(inbox, "--idle-minutes", str(minutes)) as daemon:
            drop(inbox, "a.jsonl", rows[:ROWS])
            wait_for((inbox / "done" / "a.jsonl").exists)
            time.sleep(60 * 0.05 + 10)
            before_s = processor_s(daemon)
            time.sleep(IDLE_S)
            found[name] = {
                "processes": len(tree(daemon)),
                "memory_mb": sum(one.memory_full_info().pss for one in tree(daemon)) / 1e6,
                "processor_share": (processor_s(daemon) - before_s) / IDLE_S,
            }
    return found


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process with all its descendants."""
    return [process, *process.children(recursive=True)]


def processor_s(process: psutil.Process) -> float:
    """Seconds of processor time of it and its descendants that are there."""
    return sum(sum(one.cpu_times()[:2]) for one in tree(process))


# ---- an inbox ----------------------------------------------------------------------------------


def made(inbox: Path) -> Path:
    """An inbox with the settings of these measurements."""
    inbox.mkdir(parents=True)
    (inbox / "headway.yaml").write_text(SETTINGS)
    return inbox


def drop(inbox: Path, name: str, rows: Sequence[str]) -> float:
    """Write a file into an inbox; returns when it was closed, since 1970."""
    with (inbox / name).open("w") as file:
        file.writelines(rows)
    return time.time()


@contextlib.contextmanager
def served(inbox: Path, *words: str) -> Generator[psutil.Process]:
    """A daemon that serves an inbox."""
    process = subprocess.Popen(
        [HEADWAY, "inbox", "start", str(inbox), "--preset", PRESET, "--quiet", *words],
        env=environment(inbox.parent / "cache"),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for((inbox / ".headway" / "daemon.json").exists)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not for minutes.
    """
    until_s = time.monotonic() + 300
    while not is_so():
        if time.monotonic() > until_s:
            raise TimeoutError
        time.sleep(0.01)


def events_of(run: Path) -> list[Figures]:
    """The events of a run."""
    lines = (run / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
