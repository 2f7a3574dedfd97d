"""A run that stops moving says why, within seconds, and goes on or ends with the cause.

F06 SIGSTOP of the trainer · F07 a native call that keeps the GIL · F08 a lock that is taken twice
F09 rows that do not come · F10 a loop without an end · F22 a crash at each start
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.failures.test_killed_workers import SMALL, bits, last_step
from tests.stories.test_slow_data import GIVEN, STEPS, SlowServer, awaiting

from headway.runs.folder import RunFolder

from .conftest import Headway, Result, until, worker_of

TRAIN = ["train", "days.txt", *SMALL, "--max-steps", "8", "--save-steps", "3"]
# The supervisor of a test is less patient.
HURRIED = """
if "headway.cli" in sys.orig_argv:
    from headway.supervise.stalls import stall_limits
    stall_limits.PATIENCE = stall_limits.Patience(
        beating_s=2.0, steps=4.0, ended_s=4.0, ended_steps=8.0, ended_first_s=8.0, stopped_s=2.0
    )
"""
# Once, in the third step.
TROUBLED = """
if "headway.training.worker" in sys.orig_argv:
    import pathlib, re, threading, time
    mark = pathlib.Path({mark!r})
    if not mark.exists():
        from headway.training.step import Stepper
        gradients = Stepper._gradients
        def transform_forever():
            n = 0
            while True:
                n += 1
        def troubled(self, batch, drop_if_due):
            if batch.step == 3:
                mark.touch()
                {trouble}
            return gradients(self, batch, drop_if_due)
        Stepper._gradients = troubled
"""
DEADLOCK = "lock = threading.Lock(); lock.acquire(); lock.acquire()"
GIL = "re.match('(a?){40}a{40}', 'a' * 40)"
LOOP = "transform_forever()"
# What must never be: something else beats for the training thread.
SIDE_BEATS = """
if "headway.training.worker" in sys.orig_argv:
    import threading, time
    from headway.base.pulse import Pulse
    made = Pulse.__init__
    def beating(self, *given, **more):
        made(self, *given, **more)
        def beat():
            while True:
                time.sleep(0.1)
                self.beat()
        threading.Thread(target=beat, daemon=True).start()
    Pulse.__init__ = beating
"""


@pytest.fixture
def days(headway: Headway) -> Headway:
    text = (f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
    headway.write("days.txt", "".join(text))
    return headway


def in_trouble(headway: Headway, trouble: str = "", more: str = "") -> dict[str, str]:
    """An environment with a hurried supervisor, and a trainer that gets into trouble once."""
    folder = headway.here / "mutant"
    folder.mkdir(exist_ok=True)
    mark = str(headway.here / "was-here")
    code = TROUBLED.format(mark=mark, trouble=trouble) if trouble else ""
    (folder / "sitecustomize.py").write_text("import sys\n" + HURRIED + code + more)
    return {"PYTHONPATH": str(folder)}


def stalls(headway: Headway, run: str = "days") -> list[dict[str, Any]]:
    return [one for one in headway.events(run) if one["event"] in ("stalled", "stall_ended")]


def assert_goes_on(headway: Headway, told: Result, *causes: str) -> dict[str, Any]:
    """The stall was told with its cause, and new workers went on."""
    assert told.code == 0, told.out + told.err
    began, *_, ended = stalls(headway)
    cause = began["cause"]
    assert (began["event"], cause in causes) == ("stalled", True), began
    assert (ended["event"], ended["end"]) == ("stall_ended", "restart")
    words = " ".join(told.out.split())
    how = "froze" if cause == "stopped" else "got stuck"
    assert f"the trainer {how} and was killed: new workers" in words
    receipt = headway.receipt("days")
    assert receipt["stalls"]["causes"] == {cause: 1}
    assert (receipt["stalls"]["number"], receipt["stalls"]["restarts"]) == (1, 1)
    assert receipt["attempts"] == 2
    if began["file"]:  # what looks like work is not kept
        report = (headway.here / "runs" / "days" / began["file"]).read_text()
        assert began["diagnosis"]["what"] in " ".join(report.split())
    assert "stalls" in told.out
    return began


def test_f06_a_trainer_that_is_stopped_is_named_and_goes_on_when_it_is_continued(
    days: Headway,
) -> None:
    process = days.start(*TRAIN, "--on-stall", "wait", **in_trouble(days))
    until(lambda: last_step(days, "days") >= 2)
    pid = worker_of(process.pid, 0)
    os.kill(pid, signal.SIGSTOP)
    (began,) = until(lambda: stalls(days))
    assert (began["cause"], began["role"], began["number"]) == ("stopped", "the trainer", 1)
    assert f"kill -CONT {pid}" in json.dumps(began["diagnosis"])
    status = days("status", "days", "--json").json
    assert (status["stall"]["cause"], status["stall"]["is_stall"]) == ("stopped", True)
    assert began["diagnosis"]["what"] in " ".join(days("status", "days").out.split())
    os.kill(pid, signal.SIGCONT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert stalls(days)[-1]["end"] == "itself"
    receipt = days.receipt("days")
    assert (receipt["stalls"]["number"], receipt["attempts"]) == (1, 1)
    assert "it is moving again after" in out
    assert days("verify", "days").code == 0


def test_f08_a_deadlock_is_explained_and_the_run_saved_and_ended_with_it(days: Headway) -> None:
    told = days(*TRAIN, "--on-stall", "stop", **in_trouble(days, DEADLOCK))
    began, *_, ended = stalls(days)
    assert (began["cause"], ended["end"]) == ("deadlock", "stop")
    last = days.events("days")[-1]
    assert (last["event"], last["outcome"], last["exit_code"]) == (
        "ended",
        "interrupted",
        told.code,
    )
    assert told.code not in (0, 75, 130)
    assert began["diagnosis"]["what"] in " ".join(told.err.split())
    assert "try" in told.err
    receipt = days.receipt("days")
    assert (receipt["outcome"], receipt["steps"]["applied"]) == ("interrupted", 2)
    assert receipt["checkpoint"]["name"] == "checkpoint-2"
    assert receipt["stalls"]["causes"] == {"deadlock": 1}
    assert days("verify", "days").code == 0
    again = days(*TRAIN)
    assert again.code == 0, again.err
    whole = days(*TRAIN, "--run-name", "whole")
    assert whole.code == 0, whole.err
    assert bits(days, "days") == bits(days, "whole")


@pytest.mark.chaos
@pytest.mark.parametrize("trial", range(20))
@pytest.mark.parametrize(
    ("trouble", "causes"),
    [(DEADLOCK, ("deadlock",)), (GIL, ("gil_held",)), (LOOP, ("computing", "busy_machine"))],
    ids=("deadlock", "gil", "loop"),
)
def test_f07_f08_f10_a_stuck_trainer_is_explained_and_replaced(
    days: Headway, trouble: str, causes: tuple[str, ...], trial: int
) -> None:
    assert_goes_on(days, days(*TRAIN, **in_trouble(days, trouble)), *causes)


def test_f07_a_native_call_that_keeps_the_gil_is_explained_and_replaced(days: Headway) -> None:
    began = assert_goes_on(days, days(*TRAIN, **in_trouble(days, GIL)), "gil_held")
    assert "match" in (days.here / "runs" / "days" / began["file"]).read_text()


def test_f10_a_loop_without_an_end_is_named_with_its_function(days: Headway) -> None:
    told = days(*TRAIN, **in_trouble(days, LOOP))
    assert told.code == 0, told.out + told.err
    began = stalls(days)[0]
    assert began["doing"] == "training"
    assert "transform_forever" in json.dumps(began["diagnosis"])


@pytest.mark.chaos
@pytest.mark.parametrize("trial", range(20))
def test_f06_a_trainer_that_is_stopped_for_good_is_replaced(days: Headway, trial: int) -> None:
    trouble = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    began = assert_goes_on(days, days(*TRAIN, **in_trouble(days, trouble)), "stopped")
    assert began["seconds"] < 2.0 + 2.5  # the patience, and what a look takes


@pytest.fixture
def server(headway: Headway) -> Iterator[SlowServer]:
    slow = SlowServer(RunFolder(headway.here / "runs" / "data"))
    with slow:
        yield slow


def test_f09_rows_that_do_not_come_are_no_stall_of_ours_and_end_the_run_at_their_deadline(
    headway: Headway, server: SlowServer
) -> None:
    process = awaiting(headway, server, HURRIED)
    status = until(lambda: (now := headway("status", "data", "--json").json)["rows_read"] and now)
    assert status["tokens_read"] > 0
    line = headway("status", "data").out
    assert "waiting for data, the rows of step" in line
    out, err = process.communicate(timeout=300)
    assert process.returncode not in (0, 1), out + err
    assert stalls(headway, "data") == []
    assert "stop requested by missing rows" in out
    assert "try" in err
    receipt = headway.receipt("data")
    assert (receipt["outcome"], receipt["steps"]["applied"]) == ("interrupted", GIVEN)
    assert (receipt["contract"]["verdict"], receipt["stalls"]) == ("kept", None)
    assert headway("verify", "data").code == 0
    assert STEPS > GIVEN


PATHOLOGICAL = """
if "headway.supervise.planner" in sys.orig_argv:
    import re
    import headway.data.survey.survey as module
    def pathological_line(*given, **more):
        re.match('(a?){40}a{40}', 'a' * 40)
    module.survey = pathological_line
if "headway.cli" in sys.orig_argv:
    import dataclasses
    stall_limits.PATIENCE = dataclasses.replace(stall_limits.PATIENCE, phase_s=2.0)
"""


def test_a_planner_in_a_pathological_line_is_explained_before_there_is_a_run(
    headway: Headway,
) -> None:
    headway.write("notes.txt", "Some text to make a model from. " * 400)
    environment = in_trouble(headway, more=PATHOLOGICAL)
    process = headway.start("plan", "notes.txt", "--preset", "tiny", **environment)
    assert process.stdout is not None
    shown = next(line for line in iter(process.stdout.readline, "") if "stalled" in line)
    status = headway("status", "--json").json
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert shown.startswith("the planner stalled")
    assert (status["state"], status["stall"]["role"]) == ("planning", "the planner")
    assert not (headway.here / "runs").exists()


CRASH = """
class Broken:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError("libfancy.so: cannot open shared object file")
sys.meta_path.insert(0, Broken())
"""


def test_f22_a_crash_at_each_start_ends_with_the_exception(days: Headway) -> None:
    told = days(*TRAIN, **days.mutate("crash", CRASH))
    assert told.code != 0
    assert "libfancy.so" in told.err
    assert sum(e["event"] == "attempt_started" for e in days.events("days")) <= 3


@pytest.mark.chaos
def test_a_pulse_that_something_else_beats_would_hide_the_stall(days: Headway) -> None:
    """The mutant: what these tests rely on is that the training thread itself beats."""
    process = days.start(*TRAIN, **in_trouble(days, DEADLOCK, SIDE_BEATS))
    until(lambda: (days.here / "was-here").exists())
    time.sleep(12)  # three times the patience
    assert stalls(days) == []
    assert process.poll() is None
