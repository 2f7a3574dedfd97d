"""Whatever process is killed in whatever phase: exit code, log and receipt say the same."""

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.mutants import site

from headway.base.errors import Cause, Exit

from .conftest import Headway, until

TRAIN = ["train", "tale.txt", "--preset", "tiny", "--max-steps", "6", "--save-steps", "2"]
STREAM = [*TRAIN, "--survey-exact", "10"]
MODULES = {
    "planner": "headway.supervise.planner",
    "trainer": "headway.training.worker",
    "reader": "headway.data.stream.reader_process",
}
# Dies in a phase; `once`: the first time only.
KILLED = """
import os, pathlib, signal, sys
if "{module}" in sys.orig_argv:
    import headway.base.pulse as pulses
    enter, mark = pulses.Pulse.enter, pathlib.Path("{mark}")
    def entered(self, phase, **more):
        enter(self, phase, **more)
        if phase == "{phase}" and not ({once} and mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    pulses.Pulse.enter = entered
"""


def rare(*case: str) -> Any:
    """For `make chaos`: each imports torch."""
    return pytest.param(*case, marks=pytest.mark.chaos)


CASES = [
    ("planner", "finding the data"),
    rare("planner", "starting"),
    rare("planner", "tokenizing"),
    rare("planner", "planning"),
    ("trainer", "importing torch"),
    *(
        rare("trainer", phase)
        for phase in (
            "importing transformers",
            "starting",
            "preparing",
            "loading the model",
            "checking the packing",
            "probing",
            "training",
            "saving",
            "auditing the weights",
            "writing the receipt",
        )
    ),
]


def killed(headway: Headway, process: str, phase: str, *, once: bool = False) -> dict[str, str]:
    """An environment in which a process dies in a phase."""
    folder = headway.here / "mutant"
    folder.mkdir()
    code = KILLED.format(
        module=MODULES[process], phase=phase, once=once, mark=headway.here / "was-here"
    )
    (folder / "sitecustomize.py").write_text(site(code))
    return {"PYTHONPATH": str(folder)}


def receipt_of(headway: Headway) -> Path:
    return headway.here / "runs" / "tale" / "receipt.json"


@pytest.mark.parametrize(("process", "phase"), CASES)
def test_a_killed_process_is_the_machines_failure_in_code_log_and_receipt(
    headway: Headway, process: str, phase: str, request: pytest.FixtureRequest
) -> None:
    headway.write("tale.txt", "A tale that is told again and again. " * 200)
    told = headway(*TRAIN, **killed(headway, process, phase))
    assert (headway.here / "was-here").exists(), told.out + told.err
    assert told.code == Exit.MACHINE, told.out + told.err
    assert "SIGKILL" in told.err
    assert not receipt_of(headway).exists()
    assert "kept: " not in told.out
    if process == "planner":
        assert not (headway.here / "runs").exists()
    else:
        last = headway.events("tale")[-1]
        assert (last["event"], last["outcome"], last["exit_code"]) == ("ended", "failed", told.code)
        assert last["finding"]["cause"] == Cause.PROCESS_KILLED
        assert headway("status", "tale", "--json").json["exit_code"] == told.code
    if request.node.get_closest_marker("chaos") is None:  # quick: it imports no torch
        return
    again = headway(*TRAIN)
    assert again.code == Exit.KEPT, again.err
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"
    assert headway.events("tale")[-1]["exit_code"] == Exit.KEPT


@pytest.mark.chaos
@pytest.mark.parametrize("phase", ["loading the tokenizer", "reading"])
@pytest.mark.parametrize("once", [True, False])
def test_a_killed_reader_is_replaced_until_it_dies_too_often(
    headway: Headway, phase: str, once: bool
) -> None:
    headway.write("tale.txt", "A tale that is told again and again. " * 200)
    told = headway(*STREAM, **killed(headway, "reader", phase, once=once))
    last = headway.events("tale")[-1]
    assert told.code == last["exit_code"] == (Exit.KEPT if once else Exit.MACHINE)
    assert receipt_of(headway).exists() == once
    assert headway(*STREAM).code == Exit.KEPT


@pytest.mark.chaos
@pytest.mark.parametrize("event", ["attempt_started", "step_done", "saved"])
def test_a_killed_supervisor_takes_its_processes_along(headway: Headway, event: str) -> None:
    headway.write("tale.txt", "A tale that is told again and again. " * 200)
    long = [*TRAIN[:5], "200", *TRAIN[6:]]
    process = headway.start(*long)
    until(lambda: any(e["event"] == event for e in headway.events("tale")))
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert headway("status", "tale", "--json").json["state"] == "died"
    assert not receipt_of(headway).exists()
    assert headway(*long).code == Exit.KEPT
