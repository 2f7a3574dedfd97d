"""Which silences are stalls."""

import pytest

from headway.base.errors import Finding
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import (
    Evidence,
    Frame,
    GpuFacts,
    MachineFacts,
    ProcessFacts,
    ThreadFacts,
)
from headway.guard.watch.stall import Look, busy_function, look_closely


def look(cause: StallCause, helps: Helps = Helps.PERSON, gpu: float = 0.0) -> Look:
    return Look(Diagnosis(cause, Finding("warning", "x"), helps), "text", gpu_busy=gpu)


@pytest.mark.parametrize(
    ("found", "when_idle", "when_busy"),
    [
        (look(StallCause.DEADLOCK, Helps.RESTART), True, True),
        (look(StallCause.GIL_HELD, Helps.RESTART), True, True),
        (look(StallCause.STOPPED), True, True),
        (look(StallCause.STANDARD_INPUT), True, False),
        (look(StallCause.NETWORK), True, False),
        (look(StallCause.UNKNOWN, Helps.RESTART), True, False),
        (look(StallCause.UNKNOWN, Helps.RESTART, gpu=0.9), False, False),
        (look(StallCause.SLEEPING, Helps.PATIENCE), False, False),
        (look(StallCause.COMPUTING, Helps.PATIENCE), False, False),
        (look(StallCause.COMPILING, Helps.PATIENCE), False, False),
        (look(StallCause.BUSY_MACHINE), False, False),
        (look(StallCause.HEALTHY, Helps.PATIENCE), False, False),
    ],
    ids=lambda value: value.diagnosis.cause if isinstance(value, Look) else None,
)
def test_what_is_a_stall(found: Look, *, when_idle: bool, when_busy: bool) -> None:
    assert found.is_stall(is_idle=True) is when_idle
    assert found.is_stall(is_idle=False) is when_busy


def test_the_function_that_computes_is_named() -> None:
    library = Frame("matmul", "/x/lib/python3.11/site-packages/torch/functional.py", 9)
    own = Frame("forward", "/home/a/train.py", 12)
    threads = (
        ThreadFacts(1, cpu=0.1, frames=(Frame("main", "/home/a/train.py", 90),)),
        ThreadFacts(2, cpu=0.9, frames=(library, own)),
        ThreadFacts(3, cpu=1.0),
    )
    assert busy_function(Evidence((ProcessFacts(7, threads=threads),))) == "forward (train.py:12)"
    assert busy_function(Evidence(())) == ""


def test_only_a_gpu_of_the_command_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (GpuFacts(0, "a", 0.9, 1, 2, (5,)), GpuFacts(1, "b", 0.4, 1, 2, (7,)))
    evidence = Evidence((ProcessFacts(7),), MachineFacts(gpus=gpus))
    monkeypatch.setattr("headway.diagnose.examine.examine", lambda *_, **__: evidence)
    assert look_closely([7], [], 10.0).gpu_busy == 0.4
