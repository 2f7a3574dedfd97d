"""Workers that stop, hang, crash or idle: named, and the run ends well or says why.

F12 SIGSTOP of a worker · F22 a crash loop at the start · F18 SIGKILL of the supervisor
F53 any layout, one hash · F65 G01 sampling while several train · C04 saves that only the root makes
D13 fewer rows than workers · P01 steps of unequal size · P02 an error on one rank
P03 a signal to one rank · P04 a decision by one rank's clock
"""

import os
import signal
import time
from typing import Any

import pytest
from tests.failures.test_killed_workers import SMALL, bits, last_step
from tests.mutants import site
from tests.stories.conftest import Headway, Result, cache, headway, running, until, worker_of

__all__ = ["cache", "headway"]  # fixtures

TRAIN = ["train", "days.txt", *SMALL, "--max-steps", "8", "--save-steps", "3"]
FOUR = ["--nproc", "4", "--groups", "2"]
# Runs in one worker, before anything of its own; the first time only.
ONCE = """
import pathlib, sys, time
mark = pathlib.Path({mark!r})
rank = int(sys.orig_argv[-1]) if "--rank" in sys.orig_argv else 0
if rank == {rank} and not mark.exists():
    from headway.training.step import Stepper
    gradients = Stepper._gradients
    def troubled(self, batch, drop_if_due):
        if batch.step == 3:
            mark.touch()
            {trouble}
        return gradients(self, batch, drop_if_due)
    Stepper._gradients = troubled
"""
# The supervisor of a test does not wait for a minute.
HURRIED = """
if "headway.cli" in sys.orig_argv:
    from headway.supervise.stalls import stall_limits
    stall_limits.PATIENCE = stall_limits.Patience(beating_s=1.5, ended_s=3.0, ended_steps=5)
"""


@pytest.fixture
def days(headway: Headway) -> Headway:
    text = (f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
    headway.write("days.txt", "".join(text))
    return headway


def troubled(
    headway: Headway, trouble: str, rank: int = 2, hurried: str = HURRIED
) -> dict[str, str]:
    """An environment in which a worker gets into trouble in its third step, once."""
    mark = str(headway.here / "was-here")
    environment = headway.mutate("worker", ONCE.format(mark=mark, rank=rank, trouble=trouble))
    file = headway.here / "mutant-worker" / "sitecustomize.py"
    file.write_text(file.read_text() + site(hurried))
    return environment


def noted(headway: Headway, run: str) -> list[dict[str, Any]]:
    return [e["finding"] for e in headway.events(run) if e["event"] == "noted"]


def undisturbed(headway: Headway) -> list[str]:
    assert headway(*TRAIN, "--run-name", "whole").code == 0
    return bits(headway, "whole")


def assert_restarted(headway: Headway, told: Result, what: str) -> dict[str, Any]:
    """The trouble was named, new workers went on, and the bits are those of an undisturbed run."""
    assert (headway.here / "was-here").exists()
    assert told.code == 0, told.out + told.err
    (lost,) = [one for one in noted(headway, "days") if one["cause"] == "worker_lost"]
    assert lost["what"] == what
    assert f"{what}: new workers continue from" in " ".join(told.out.split())
    assert headway.receipt("days")["attempts"] == 2
    assert bits(headway, "days") == undisturbed(headway)
    return lost


def test_a_worker_that_sleeps_for_ever_in_its_step_is_named_with_what_it_did(days: Headway) -> None:
    told = days(*TRAIN, *FOUR, **troubled(days, "time.sleep(1e6)"))
    lost = assert_restarted(days, told, "worker 2 of 4 (group 1) got stuck and was killed")
    assert lost["have"].startswith("no progress for")
    assert "a step usually takes" in lost["have"]
    assert lost["have"].endswith("it was training, after step 2")


@pytest.mark.chaos
def test_a_root_that_is_stuck_is_replaced(days: Headway) -> None:
    told = days(*TRAIN, *FOUR, **troubled(days, "time.sleep(1e6)", rank=0))
    assert_restarted(days, told, "worker 0 of 4 (group 0) got stuck and was killed")


@pytest.mark.chaos
@pytest.mark.parametrize("rank", [1, 2])
def test_f12_a_worker_that_stands_still_is_named_and_replaced(days: Headway, rank: int) -> None:
    trouble = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    told = days(*TRAIN, *FOUR, **troubled(days, trouble, rank, hurried="pass"))
    what = f"worker {rank} of 4 (group {rank // 2}) froze and was killed"
    assert_restarted(days, told, what)


def test_p02_an_error_on_one_rank_ends_all_with_that_error(days: Headway) -> None:
    environment = troubled(days, "raise ValueError('a broken worker')")
    began_s = time.monotonic()
    told = days(*TRAIN, *FOUR, **environment)
    assert told.code == 1, told.out
    assert "training (worker 2) failed: ValueError: a broken worker" in told.err
    started = [e for e in days.events("days") if e["event"] == "attempt_started"]
    assert len(started) == 1  # it would fail again
    assert days.receipt("days")["checkpoint"]["name"] == "checkpoint-2"
    assert time.monotonic() - began_s < 300


@pytest.mark.chaos
@pytest.mark.parametrize("rank", ["", "1"])
def test_f22_a_crash_at_the_start_is_shown_and_not_repeated_for_ever(
    days: Headway, rank: str
) -> None:
    who = f'sys.orig_argv[-1] == "{rank}"' if rank else '"--rank" not in sys.orig_argv'
    code = f"if {who}:\n    sys.modules['torch'] = None"
    told = days(*TRAIN, *FOUR, **days.mutate("crash", code))
    assert told.code != 0
    assert "torch" in told.err + "".join(one["what"] for one in noted(days, "days"))
    assert sum(e["event"] == "attempt_started" for e in days.events("days")) <= 2


@pytest.mark.chaos
def test_f22_a_worker_that_is_killed_at_each_start_is_given_up(days: Headway) -> None:
    code = "import os, signal\nif sys.orig_argv[-1] == '1': os.kill(os.getpid(), signal.SIGKILL)"
    told = days(*TRAIN, *FOUR, **days.mutate("killed", code))
    assert told.code == 5
    assert sum(e["event"] == "attempt_started" for e in days.events("days")) == 2
    assert "no restart: no new step was finished since the last restart" in told.out


@pytest.mark.chaos
def test_f18_o04_workers_end_with_their_supervisor(days: Headway) -> None:
    process = days.start(*TRAIN, *FOUR)
    until(lambda: last_step(days, "days") >= 2)
    workers = [worker_of(process.pid, rank) for rank in range(4)]
    process.kill()
    process.wait()
    until(lambda: not any(map(running, workers)), 2)
    assert days(*TRAIN, *FOUR).code == 0
    assert bits(days, "days") == undisturbed(days)


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_during_a_restart_is_a_stop(days: Headway, number: signal.Signals) -> None:
    process = days.start(*TRAIN, *FOUR)
    until(lambda: last_step(days, "days") >= 2)
    os.kill(worker_of(process.pid, 1), signal.SIGKILL)
    until(lambda: any(e.get("restarts") for e in days.events("days")))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 75), out + err
    assert days.events("days")[-1]["outcome"] == "interrupted"
    assert days(*TRAIN, *FOUR).code == 0
    assert bits(days, "days") == undisturbed(days)


@pytest.mark.chaos
def test_p03_a_signal_to_one_rank_stops_all_in_the_same_step(days: Headway) -> None:
    process = days.start(*TRAIN, *FOUR)
    until(lambda: last_step(days, "days") >= 2)
    os.kill(worker_of(process.pid, 3), signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    receipt = days.receipt("days")
    assert receipt["checkpoint"]["name"] == f"checkpoint-{receipt['steps']['applied']}"
    assert days(*TRAIN, *FOUR).code == 0
    assert bits(days, "days") == undisturbed(days)


def test_f65_g01_c04_samples_and_saves_in_each_step_change_no_bit(days: Headway) -> None:
    often = ["--sample-steps", "1", "--sample-prompts", "The", "--sample-tokens", "4"]
    often += ["--save-steps", "1", "--eval-steps", "2", "--val-size", "8"]
    told = days(*TRAIN[:-2], *FOUR, *often)
    assert told.code == 0, told.out + told.err
    assert sum(e["event"] == "sampled" for e in days.events("days")) == 8
    assert sum(e["event"] == "saved" for e in days.events("days")) == 8
    plain = days(*TRAIN, "--val-size", "8", "--run-name", "plain")
    assert plain.code == 0
    assert bits(days, "days") == bits(days, "plain")


@pytest.mark.chaos
def test_p04_a_decision_by_the_roots_clock_is_everybodys(days: Headway) -> None:
    """One rank's clock is an hour ahead: time is up when the root says so."""
    code = "import time\nif '--rank' in sys.orig_argv:\n    time.time = lambda: 1e10"
    told = days(*TRAIN, *FOUR, "--max-time", "3600s", **days.mutate("clock", code))
    assert told.code == 0, told.err
    assert bits(days, "days") == undisturbed(days)


@pytest.mark.chaos
@pytest.mark.parametrize("layout", ["2/1", "2/2", "4/1", "4/2", "4/4", "8/1", "8/2", "8/4"])
def test_f53_p01_any_layout_has_one_hash(days: Headway, layout: str) -> None:
    """3,000 lines make unequal epochs: the last step of each is a small one."""
    nproc, groups = layout.split("/")
    told = days(*TRAIN, "--nproc", nproc, "--groups", groups)
    assert told.code == 0, told.err
    assert bits(days, "days") == undisturbed(days)


def test_d13_fewer_rows_than_workers_train_and_the_idle_are_told(headway: Headway) -> None:
    headway.write("few.txt", "A few words, and then a few more. " * 12)
    words = ["few.txt", "--preset", "tiny", "--max-length", "32", "--threads", "1"]
    plan = headway("plan", *words, "--nproc", "8")
    assert plan.code == 0, plan.err
    assert "idle" in plan.out
    told = headway("train", *words, "--nproc", "8", "--max-steps", "2", "--run-name", "few")
    assert told.code == 0, told.out + told.err
    receipt = headway.receipt("few")
    assert (receipt["rows"]["missing"], receipt["rows"]["repeated"]) == (0, 0)
    assert len(receipt["workers"]) == 8
