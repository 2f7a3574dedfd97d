"""A plan is saved once, and workers that a launcher starts on one machine or several train it."""

import json
import shlex
import subprocess
import sys

import pytest

from .conftest import LIMIT_S, Headway

TEXT = "".join(f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
PLAN = ["days.txt", "--preset", "tiny", "--max-length", "64", "--batch-size", "64"]
PLAN += ["--threads", "1", "--max-steps", "6", "--save-steps", "2"]
PLAN += ["--no-bf16"]  # else each run finds out by measuring which format is faster


@pytest.fixture
def days(headway: Headway) -> Headway:
    headway.write("days.txt", TEXT)
    return headway


def test_a_plan_that_is_saved_is_trained_by_a_worker_that_a_launcher_starts(days: Headway) -> None:
    saved = days("plan", *PLAN, "--save", "runs/days")
    assert saved.code == 0, saved.err
    line = "saved runs/days · torchrun --nproc-per-node 1 -m headway.training.worker runs/days"
    assert line in saved.out.replace("\n", " ")
    assert days("status", "days", "--json").json["state"] == "planned"
    plan = (days.here / "runs/days/plan.json").read_bytes()
    again = days("plan", *PLAN, "--save", "runs/days", "--json")
    assert again.json == json.loads(plan)
    worker = [sys.executable, "-P", "-m", "headway.training.worker", "runs/days"]
    done = subprocess.run(
        worker, cwd=days.here, env=days.environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert (days.here / "runs/days/plan.json").read_bytes() == plan
    assert days.receipt("days")["contract"]["verdict"] == "kept"
    assert days("verify", "days").code == 0
    assert "already trained" in days("train", *PLAN, "--run-name", "days").out
    assert "already trained" in days("plan", *PLAN, "--save", "days").out


def test_a_saved_plan_is_where_the_same_words_train(days: Headway) -> None:
    assert days("plan", *PLAN, "--save", "days").code == 0
    assert days("train", *PLAN).code == 0
    assert [path.name for path in (days.here / "runs").iterdir()] == ["days"]
    assert len([e for e in days.events("days") if e["event"] == "attempt_started"]) == 1


def test_a_saved_plan_that_is_in_the_way_is_refused_with_lines_that_work(days: Headway) -> None:
    assert days("plan", *PLAN, "--save", "days").code == 0
    other = ["days.txt", *PLAN[1:], "--seed", "7"]
    refused = days("plan", *other, "--save", "days")
    assert refused.code == 2
    assert "run days already exists with a different plan" in refused.err
    remedies = [
        line.split("try")[-1].strip() for line in refused.err.splitlines() if "headway" in line
    ]
    for line in remedies[:2]:
        verb, source, *words = shlex.split(line.split("   ")[0])[1:]
        assert days(verb, source, *words, *PLAN[1:], "--seed", "7").code == 0, line
    names = [path.name.partition(".old")[0] for path in (days.here / "runs").iterdir()]
    assert sorted(names) == ["days", "days", "days-2"]


def test_workers_of_a_launcher_have_the_bits_of_one_process(days: Headway) -> None:
    assert days("train", *PLAN, "--nproc", "3", "--run-name", "alone").code == 0
    assert days("plan", *PLAN, "--nproc", "3", "--save", "runs/many").code == 0
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    words += ["-m", "headway.training.worker", "runs/many"]
    done = subprocess.run(
        [sys.executable, "-P", *words],
        cwd=days.here,
        env=days.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert "kept: 6 of 6 steps" in done.stdout
    receipts = [days.receipt(name) for name in ("alone", "many")]
    assert [one["reduction"] for one in receipts] == ["tree", "tree"]
    assert [len(one["workers"]) for one in receipts] == [3, 3]
    weights = [
        (days.here / "runs" / name / "model" / "model.safetensors").read_bytes()
        for name in ("alone", "many")
    ]
    assert weights[0] == weights[1]
    assert days("verify", "many").code == 0


def test_fast_sums_are_named_and_close(days: Headway) -> None:
    done = days("train", *PLAN, "--nproc", "2", "--reduction", "fast", "--run-name", "fast")
    assert done.code == 0, done.err
    assert "fast reduction" in done.out
    receipt = days.receipt("fast")
    assert (receipt["reduction"], receipt["contract"]["verdict"]) == ("fast", "kept")
