"""Diagnosis values: as JSON for programs, and back."""

import msgspec
import pytest

from headway.base.errors import Exit, Finding
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause


@pytest.mark.parametrize("cause", StallCause)
def test_a_diagnosis_survives_json(cause: StallCause) -> None:
    before = Diagnosis(cause, Finding("warning", "it stands"), Helps.RESTART, 7, Exit.MACHINE)
    encoded = msgspec.json.encode(before)
    assert msgspec.json.decode(encoded, type=Diagnosis) == before
    assert msgspec.json.decode(encoded)["cause"] == cause.value


def test_a_stall_that_nobody_can_explain_breaks_the_contract() -> None:
    finding = Finding("warning", "it stands")
    assert Diagnosis(StallCause.UNKNOWN, finding, Helps.PERSON).exit_code == Exit.BROKEN
