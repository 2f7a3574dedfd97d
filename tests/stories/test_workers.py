"""Several workers train what one would, bit for bit; losing one costs no finished step."""

import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import Headway, until, worker_of

TEXT = "".join(f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
SMALL = ["--preset", "tiny", "--max-length", "64", "--batch-size", "256", "--threads", "1"]
SMALL += ["--no-bf16"]  # else each run finds out by measuring which format is faster
EVALUATED = ["--val-size", "40", "--eval-steps", "5"]
TRAIN = ["train", "days.txt", *SMALL, *EVALUATED, "--max-steps", "12", "--save-steps", "4"]


@pytest.fixture
def days(headway: Headway) -> Headway:
    headway.write("days.txt", TEXT)
    return headway


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Headway:
    """Where one process has trained the days, as run one."""
    headway = Headway(tmp_path_factory.mktemp("alone"), cache)
    headway.write("days.txt", TEXT)
    done = headway(*TRAIN, "--run-name", "one")
    assert done.code == 0, done.err
    return headway


def bits(headway: Headway, run: str) -> tuple[str, str]:
    """Weights and moments of a run's newest checkpoint."""
    folder = (headway.here / "runs" / run / "model").resolve()
    names = ("model.safetensors", "optimizer.safetensors")
    weights, moments = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names)
    return weights, moments


def losses(headway: Headway, run: str) -> list[object]:
    """Every loss that was evaluated: before, after, and of the held-out rows in between."""
    found = [e for e in headway.events(run) if e["event"] == "evaluated"]
    evaluated = [(e["global_step"], e["held_out"], e["rows"]) for e in found]
    return [evaluated, receipt_of(headway, run)["learning_facts"]]


def receipt_of(headway: Headway, run: str) -> Any:
    return json.loads((headway.here / "runs" / run / "receipt.json").read_text())


def steps_in(folder: Path) -> list[Any]:
    log = folder / "events.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    events = [json.loads(line) for line in lines]
    return [event for event in events if event["event"] == "step_done"]


def test_c_a_root_three_groups_and_six_workers_have_the_bits_of_one(
    days: Headway, alone: Headway
) -> None:
    many = days(*TRAIN, "--nproc", "6", "--groups", "3", "--run-name", "many")
    assert many.code == 0, many.err
    told = receipt_of(days, "many")
    assert told["contract"]["verdict"] == "kept"
    assert [worker["group"] for worker in told["workers"]] == [0, 0, 1, 1, 2, 2]
    assert sum(worker["rows"] for worker in told["workers"]) == told["rows"]["applications"]
    assert {step["workers"] for step in steps_in(days.here / "runs" / "many")} == {6}
    assert told["learning_facts"]["grad_norm_last"] > 0
    assert told["plan"] == receipt_of(alone, "one")["plan"]  # the run's name is no part of it
    assert bits(days, "many") == bits(alone, "one")
    assert losses(days, "many") == losses(alone, "one")
    assert "6 workers in 3 groups" in many.out
    assert days("verify", "many").code == 0


def test_without_restarts_any_number_of_others_goes_on(days: Headway, alone: Headway) -> None:
    command = [*TRAIN, "--nproc", "4", "--groups", "2", "--run-name", "killed"]
    command += ["--max-restarts", "0"]
    process = days.start(*command)
    folder = days.here / "runs" / "killed"
    until(lambda: len(steps_in(folder)) >= 2)
    os.kill(worker_of(process.pid, rank=3), signal.SIGKILL)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 5
    assert "worker 3 of 4 (group 1) was killed by SIGKILL" in out
    lost = receipt_of(days, "killed")
    assert lost["outcome"] == "failed"
    assert lost["checkpoint"]["name"] == f"checkpoint-{lost['steps']['applied']}"
    again = days(*TRAIN, "--nproc", "2", "--run-name", "killed")
    assert again.code == 0, again.err
    assert bits(days, "killed") == bits(alone, "one")
    assert losses(days, "killed")[1] == losses(alone, "one")[1]


def test_a_stream_has_one_reader_for_all_workers_and_the_bits_of_one(headway: Headway) -> None:
    lines = [json.dumps({"text": line}) for line in TEXT.splitlines()]
    lines[100:100] = lines[2000:2000] = ['{"text": "cut in hal']
    headway.write("lines.jsonl", "\n".join(lines) + "\n")
    command = ["train", "lines.jsonl", *SMALL, "--survey-exact", "10", "--val-size", "9"]
    command += ["--max-steps", "12", "--save-steps", "4", "--max-rejected", "0.5"]
    one = headway(*command, "--run-name", "one")
    assert one.code == 0, one.err
    many = [*command, "--nproc", "3", "--run-name", "many"]
    process = headway.start(*many, "--max-restarts", "0")
    folder = headway.here / "runs" / "many"
    until(lambda: len(steps_in(folder)) >= 6)
    below = psutil.Process(process.pid).children(recursive=True)
    assert sum("headway.data.stream.reader_process" in child.cmdline() for child in below) == 1
    os.kill(worker_of(process.pid, rank=2), signal.SIGKILL)
    process.communicate(timeout=100)
    again = headway(*command, "--nproc", "2", "--run-name", "many")
    assert again.code == 0, again.err
    assert bits(headway, "many") == bits(headway, "one")
    found, right = (receipt_of(headway, run) for run in ("many", "one"))
    for what in ("rows", "tokens", "learning_facts"):
        assert found[what] == right[what]
    runs = headway.here / "runs"
    rejected = [(runs / run / "rejected.jsonl").read_text() for run in ("many", "one")]
    assert rejected[0] == rejected[1]
    assert len(rejected[0].splitlines()) == sum(right["rows"]["rejected"].values()) > 0
    assert headway("verify", "many").code == 0


def test_how_many_workers_is_decided_by_what_runs_have_measured(days: Headway) -> None:
    days.before = ["taskset", "-c", f"0-{(os.cpu_count() or 1) - 1}"]  # a test may have one alone
    days.environment["XDG_CACHE_HOME"] = str(days.here / "cache")  # where nothing is measured yet
    short = ["days.txt", *SMALL, "--learning-rate", "1e-3"]
    short += ["--batch-size", "64", "--max-steps", "6", "--nproc", "auto"]
    first = days("train", *short, "--run-name", "first")
    assert first.code == 0, first.err
    assert "1: nothing is measured here yet, this run is" in first.out
    second = days("train", *short, "--run-name", "second")
    assert second.code == 0, second.err
    assert "2: not measured here yet, this run is" in second.out
    assert len(receipt_of(days, "second")["workers"]) == 2
    third = days("plan", *short)
    assert len(re.findall(r"[12] x 1 thread: [\d,]+ tok/s", third.out)) == 2
    assert "the fastest here" in third.out
    again = days("train", *short, "--run-name", "second")
    assert "already trained" in again.out


def test_a_group_without_a_worker_is_refused(days: Headway) -> None:
    groups = days("plan", "days.txt", *SMALL, "--nproc", "2", "--groups", "3")
    assert groups.code == 2
    assert "3 groups of 2 workers" in groups.err
