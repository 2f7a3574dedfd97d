"""Answers: the exit code, and no secret in what a diagnosis says."""

import pytest

from headway.base.errors import Exit, Finding, Remedy
from headway.diagnose.answer import SCHEMA, DiagnosisAnswer
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence


def diagnosis(cause: StallCause, have: str = "") -> Diagnosis:
    finding = Finding("warning", "it stands", have, "", (Remedy(f"curl {have}"),))
    return Diagnosis(cause, finding, Helps.PERSON)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (StallCause.HEALTHY, Exit.KEPT),
        (StallCause.DEADLOCK, Exit.KEPT),
        (StallCause.UNKNOWN, Exit.BROKEN),
    ],
)
def test_only_what_nobody_can_explain_is_a_failure(cause: StallCause, code: Exit) -> None:
    assert DiagnosisAnswer.of("notes", "training", Evidence(()), diagnosis(cause)).exit_code == code


def test_what_does_not_run_is_no_failure() -> None:
    assert DiagnosisAnswer(SCHEMA, "notes", "finished", running=False).exit_code == Exit.KEPT


def test_no_secret_is_passed_on() -> None:
    planted = "https://u:planted@host/x"
    answer = DiagnosisAnswer.of(
        "notes", "training", Evidence(()), diagnosis(StallCause.NETWORK, planted)
    )
    assert answer.diagnosis is not None
    assert "planted" not in str(answer.diagnosis)
    assert "https://host/x" in str(answer.diagnosis)
