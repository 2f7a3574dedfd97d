"""What is done about a stall: by the setting, by what helps, and never against a person's word."""

from typing import Any

import pytest
from tests.ui.fixtures import pulse

from headway.base.errors import Finding
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.runs.workers import OnStall
from headway.supervise.stalls.policy import Act, choose_act, is_accused

DATA = {"activity": "waiting for data", "waiting": "the rows of step 3"}


def diagnosis(cause: StallCause, helps: Helps) -> Diagnosis:
    return Diagnosis(cause, Finding("warning", "w"), helps)


@pytest.mark.parametrize(
    ("on_stall", "cause", "helps", "changes", "act"),
    [
        ("wait", StallCause.DEADLOCK, Helps.RESTART, {}, Act.WAIT),
        ("restart", StallCause.DEADLOCK, Helps.RESTART, {}, Act.RESTART),
        ("stop", StallCause.DEADLOCK, Helps.RESTART, {}, Act.STOP),
        # what new workers would meet again
        ("restart", StallCause.DISK_FULL, Helps.PERSON, {}, Act.WAIT),
        ("stop", StallCause.DISK_FULL, Helps.PERSON, {}, Act.STOP),
        ("restart", StallCause.DISK_SLOW, Helps.PATIENCE, {}, Act.WAIT),
        ("stop", StallCause.COMPILING, Helps.PATIENCE, {}, Act.WAIT),
        # work without an end looks like work
        ("restart", StallCause.COMPUTING, Helps.PATIENCE, {}, Act.RESTART),
        ("stop", StallCause.COMPUTING, Helps.PATIENCE, {}, Act.STOP),
        ("restart", StallCause.SLEEPING, Helps.PATIENCE, {}, Act.RESTART),
        ("restart", StallCause.BUSY_MACHINE, Helps.PATIENCE, {}, Act.RESTART),
        ("restart", StallCause.GIL_HELD, Helps.PERSON, {}, Act.RESTART),
        # SIGSTOP, whatever helps with it elsewhere
        ("restart", StallCause.STOPPED, Helps.PERSON, {}, Act.RESTART),
        # rows that do not come
        ("restart", StallCause.SLOW_SOURCE, Helps.PATIENCE, DATA, Act.STOP),
        ("restart", StallCause.NETWORK, Helps.PERSON, DATA, Act.STOP),
        ("wait", StallCause.SLOW_SOURCE, Helps.PATIENCE, DATA, Act.WAIT),
        ("restart", StallCause.SLOW_SOURCE, Helps.PATIENCE, DATA | {"phase": "reading"}, Act.WAIT),
        ("restart", StallCause.LOADER_DEAD, Helps.RESTART, DATA, Act.RESTART),
    ],
)
def test_what_is_done(
    on_stall: OnStall, cause: StallCause, helps: Helps, changes: dict[str, Any], act: Act
) -> None:
    assert choose_act(on_stall, diagnosis(cause, helps), pulse(**changes)) is act


def test_a_silence_that_is_over_by_itself_is_no_stall() -> None:
    assert is_accused(diagnosis(StallCause.DEADLOCK, Helps.RESTART))
    assert is_accused(diagnosis(StallCause.DISK_FULL, Helps.PERSON))
    assert not is_accused(diagnosis(StallCause.SLOW_SOURCE, Helps.PATIENCE))
    assert not is_accused(diagnosis(StallCause.HEALTHY, Helps.PATIENCE))


def test_what_is_slow_is_not_stuck() -> None:
    assert not is_accused(diagnosis(StallCause.CPU_QUOTA, Helps.PERSON))
