"""Workers are killed at random instants, and new ones end with the bits of an undisturbed run.

F11 SIGKILL of one of W workers · F19 a restart with what the one before left behind
"""

import contextlib
import json
import os
import random
import signal
import time
from subprocess import Popen, TimeoutExpired

import psutil
import pytest
from tests.stories.conftest import Headway, cache, headway, until, worker_of

__all__ = ["cache", "headway"]  # fixtures

WORKERS = 4
SMALL = ["--preset", "tiny", "--max-length", "64", "--batch-size", "256", "--threads", "1"]
SMALL += ["--no-bf16"]  # else the faster format is found out by measuring, in each run anew
TEAM = ["--nproc", str(WORKERS), "--groups", "2"]
ALONE = ["train", "days.txt", *SMALL, "--max-steps", "24", "--save-steps", "6"]
TRAIN = [*ALONE, *TEAM]
NUM_KILLS = 20


@pytest.fixture
def days(headway: Headway) -> Headway:
    text = (f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
    headway.write("days.txt", "".join(text))
    return headway


def bits(headway: Headway, run: str) -> list[str]:
    """The hashes of weights and moments in a run's newest checkpoint."""
    manifest = json.loads((headway.here / "runs" / run / "model/manifest.json").read_text())
    return [manifest["files"][f"{name}.safetensors"]["sha256"] for name in ("model", "optimizer")]


def undisturbed(headway: Headway) -> list[str]:
    """The bits of a run of one process, which nobody killed."""
    whole = headway(*ALONE, "--run-name", "whole")
    assert whole.code == 0, whole.err
    return bits(headway, "whole")


def last_step(headway: Headway, run: str) -> int:
    return max((e["step"] for e in headway.events(run) if e["event"] == "step_done"), default=0)


def kill(process: "Popen[str]", rank: int) -> bool:
    """Kill a worker; returns whether there was one, as there is not between two attempts."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, AssertionError):
        os.kill(worker_of(process.pid, rank), signal.SIGKILL)
        return True
    return False


def wait(process: "Popen[str]", seconds: float) -> bool:
    """Wait for so long; returns whether the process still runs."""
    with contextlib.suppress(TimeoutExpired):
        process.wait(seconds)
    return process.poll() is None


def test_f11_f19_a_killed_member_and_a_killed_root_are_replaced(days: Headway) -> None:
    process = days.start(*TRAIN, "--run-name", "killed", "--json")
    until(lambda: last_step(days, "killed") >= 2)
    kill(process, rank=3)
    until(lambda: last_step(days, "killed") >= 8)
    kill(process, rank=0)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    attempts = [e for e in days.events("killed") if e["event"] == "attempt_started"]
    assert [e["restarts"] for e in attempts] == [0, 1, 2]
    assert attempts[1]["after"] == "worker 3 of 4 (group 1) was killed by SIGKILL"
    assert attempts[2]["after"] == "training killed (worker 0 of 4) was killed by SIGKILL"
    assert attempts[1]["from_global_step"] >= 2  # the root saved what was finished
    assert attempts[2]["from_global_step"] >= 6
    receipt = days.receipt("killed")
    assert (receipt["contract"]["verdict"], receipt["attempts"]) == ("kept", 3)
    assert days("verify", "killed").code == 0
    assert bits(days, "killed") == undisturbed(days)


@pytest.mark.chaos
def test_f11_each_run_with_a_worker_killed_at_a_random_instant_has_the_same_bits(
    days: Headway,
) -> None:
    right, chance, kills = undisturbed(days), random.Random(20), list[int]()
    began_s = time.monotonic()
    assert days(*TRAIN, "--run-name", "team").code == 0
    usual_s = time.monotonic() - began_s
    while len(kills) < NUM_KILLS:
        run, rank = f"run-{len(kills)}", chance.randrange(WORKERS)
        process = days.start(*TRAIN, "--run-name", run, "--fresh")
        is_killed = wait(process, chance.uniform(0, usual_s)) and kill(process, rank)
        out, err = process.communicate()
        assert process.returncode == 0, out + err
        assert bits(days, run) == right
        assert days.receipt(run)["contract"]["verdict"] == "kept"
        if is_killed:
            kills.append(rank)
    assert set(kills) == set(range(WORKERS))


@pytest.mark.chaos
def test_f11_workers_killed_again_and_again_end_as_if_they_had_not_been(days: Headway) -> None:
    right, chance, kills, finished = undisturbed(days), random.Random(11), 0, 0
    while kills < NUM_KILLS or not finished:
        run = f"run-{finished}"
        process = days.start(*TRAIN, "--run-name", run)
        while process.poll() is None:
            is_running = wait(process, chance.uniform(0, 15))
            if is_running and kills < NUM_KILLS:
                kills += kill(process, chance.randrange(WORKERS))
        out, err = process.communicate()
        assert process.returncode in (0, 5), out + err  # 5: killed twice without a new step
        if process.returncode == 0:
            assert bits(days, run) == right
            assert days.receipt(run)["contract"]["verdict"] == "kept"
            finished += 1
