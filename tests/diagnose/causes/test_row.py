from headway.base.errors import Cause, Exit, Remedy
from headway.diagnose.causes.row import diagnosis
from headway.diagnose.diagnosis import Helps, StallCause


def test_every_cause_has_an_ending() -> None:
    for cause in StallCause:
        found = diagnosis(cause, "it waits")
        assert found.cause is cause
        assert found.exit_code != Exit.KEPT


def test_a_cause_implies_what_helps_the_code_and_the_kind_of_finding() -> None:
    remedy = Remedy("df -h /", "shows what is free")
    full = diagnosis(StallCause.DISK_FULL, "the disk is full", remedies=(remedy,), pid=7)
    assert (full.helps, full.exit_code, full.pid) == (Helps.PERSON, Exit.MACHINE, 7)
    assert (full.finding.kind, full.finding.cause) == ("warning", Cause.DISK_FULL)
    assert full.finding.remedies == (remedy,)
    slow = diagnosis(StallCause.COMPUTING, "it computes")
    assert (slow.helps, slow.finding.kind) == (Helps.PATIENCE, "ok")


def test_what_helps_can_be_other_than_usual() -> None:
    found = diagnosis(StallCause.COLLECTIVE, "it waits", helps=Helps.PATIENCE)
    assert (found.helps, found.finding.kind) == (Helps.PATIENCE, "ok")
