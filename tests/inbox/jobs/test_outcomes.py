"""What the end of a training process means: a table of codes, causes and receipts."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.world import refused
from tests.ui.fixtures import receipt

from headway.base.errors import Cause, Exit, Finding, RefusalMessage
from headway.base.events import Ended, EventLog
from headway.inbox.jobs.outcomes import FileOutcome, TrainingEnd, is_trained, judge_end, receipt_of
from headway.runs.receipt import Judgment

KEPT = receipt()
BROKEN = replace(KEPT, contract=Judgment("broken", ("no trainable tensor changed",)))
NOT_LEARNED = replace(KEPT, learning=Judgment("not", ()))
INTERRUPTED = replace(KEPT, outcome="interrupted")
NO_STEP = replace(KEPT, steps=replace(KEPT.steps, applied=0))


def end(code: int, cause: Cause | None = None) -> TrainingEnd:
    return refused(code, what="x", cause=cause) if cause else TrainingEnd(code)


CASES = {
    "all was trained": (end(0), KEPT, FileOutcome.DONE),
    "all was trained, and it did not learn": (end(4), NOT_LEARNED, FileOutcome.DONE),
    "killed after its receipt": (end(-9), KEPT, FileOutcome.DONE),
    "a broken contract": (end(4), BROKEN, FileOutcome.FAILED),
    "R01 no step": (end(0), NO_STEP, FileOutcome.FAILED),
    "success without a receipt": (end(0), None, FileOutcome.FAILED),
    "too little data": (end(3, Cause.TOO_LITTLE_DATA), None, FileOutcome.FAILED),
    "an unreadable file": (end(2, Cause.SOURCE_UNREADABLE), None, FileOutcome.FAILED),
    "a missing package": (end(2, Cause.MISSING_PACKAGE), None, FileOutcome.FAILED),
    "it changed": (end(75, Cause.SOURCE_CHANGED), None, FileOutcome.FAILED),
    "a NaN": (end(4, Cause.NOT_FINITE), None, FileOutcome.FAILED),
    "killed": (end(-9), None, FileOutcome.CRASHED),
    "a segmentation fault": (end(-11), None, FileOutcome.CRASHED),
    "the trainer was killed": (end(5, Cause.PROCESS_KILLED), None, FileOutcome.CRASHED),
    "out of memory": (end(5, Cause.OUT_OF_MEMORY), None, FileOutcome.CRASHED),
    "a bug": (end(1), None, FileOutcome.CRASHED),
    "a full disk": (end(5, Cause.DISK_FULL), None, FileOutcome.LATER),
    "no device": (end(5, Cause.NO_DEVICE), None, FileOutcome.LATER),
    "a held lock": (end(75, Cause.RUN_ACTIVE), None, FileOutcome.LATER),
    "a host that does not answer": (end(75, Cause.NO_ANSWER), None, FileOutcome.LATER),
    "a time limit": (end(75), INTERRUPTED, FileOutcome.AGAIN),
    "a wrong setting": (end(2, Cause.INVALID_VALUE), None, FileOutcome.GIVE_UP),
    "no model": (end(2, Cause.MODEL_NOT_FOUND), None, FileOutcome.GIVE_UP),
}


@pytest.mark.parametrize("case", CASES)
def test_what_follows_from_an_end(tmp_path: Path, case: str) -> None:
    one, found, outcome = CASES[case]
    verdict = judge_end(one, tmp_path, was_stopped=False, receipt=found)
    assert verdict.outcome is outcome
    if outcome in (FileOutcome.FAILED, FileOutcome.CRASHED, FileOutcome.GIVE_UP):
        assert verdict.finding is not None


@pytest.mark.parametrize("code", [Exit.COME_BACK, Exit.INTERRUPTED])
def test_a_stop_that_was_asked_for_is_one(tmp_path: Path, code: int) -> None:
    for found in (None, INTERRUPTED):
        verdict = judge_end(end(code), tmp_path, was_stopped=True, receipt=found)
        assert verdict.outcome is FileOutcome.STOPPED
    assert judge_end(end(0), tmp_path, was_stopped=True, receipt=KEPT).outcome is FileOutcome.DONE


def test_the_reason_is_the_last_one_in_the_log(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    finding = Finding("refused", "the loss was not finite", cause=Cause.NOT_FINITE)
    log.write(Ended("failed", 4, "x", finding))
    verdict = judge_end(end(4), tmp_path, was_stopped=False, receipt=None)
    assert verdict.finding == finding


def test_none_of_several_problems_is_lost(tmp_path: Path) -> None:
    findings = tuple(
        Finding("refused", what, "half", cause=Cause.SOURCE_DAMAGED) for what in ("a", "b", "c")
    )
    several = TrainingEnd(3, RefusalMessage(3, findings))
    verdict = judge_end(several, tmp_path, was_stopped=False, receipt=None)
    assert verdict.finding is not None
    assert (verdict.finding.what, verdict.finding.have) == ("a", "half\nalso: b\nalso: c")


def test_only_a_whole_receipt_counts(tmp_path: Path) -> None:
    assert is_trained(KEPT)
    assert not is_trained(None)
    assert not is_trained(replace(KEPT, checkpoint=None))
    (tmp_path / "receipt.json").write_text('{"schema": "headway.receipt/1"')
    assert receipt_of(tmp_path) is None
