"""A stall that ends a run, as an error of four parts."""

from headway.base.errors import Cause, Exit, Finding, MachineError, Remedy
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.supervise.stalls.due import Due
from headway.supervise.stalls.policy import Act
from headway.supervise.stalls.silence import StuckWorker

FULL = Finding("warning", "the disk is full", "0 B free", "3 MB", (Remedy("rm -r old", "room"),))


def due(finding: Finding, code: Exit = Exit.MACHINE) -> Due:
    diagnosis = Diagnosis(StallCause.DISK_FULL, finding, Helps.PERSON, exit_code=code)
    return Due(StuckWorker(0, 75.0), Act.STOP, diagnosis)


def test_it_is_an_error_with_the_code_and_the_parts_of_its_cause() -> None:
    refusal = due(FULL).refusal()
    assert isinstance(refusal, MachineError)
    assert refusal.what == "the disk is full"
    assert refusal.have == "0 B free\nno progress for 1 min 15 s"
    assert refusal.need == "3 MB"
    assert refusal.remedies == FULL.remedies
    assert refusal.cause is Cause.STALLED


def test_without_facts_it_has_the_time() -> None:
    assert due(Finding("warning", "stuck")).finding.have == "no progress for 1 min 15 s"
