"""Patience depends on what a process does, on the run's own steps and on what it got over."""

from typing import Any

import pytest
from tests.ui.fixtures import pulse

from headway.supervise.stalls.stall_limits import PATIENCE, Known, Patience

DATA = {"activity": "waiting for data", "waiting": "the rows of step 3"}


@pytest.mark.parametrize(
    ("changes", "step_s", "limit"),
    [
        ({}, 0.2, 60.0),
        ({}, 30.0, 600.0),
        ({}, None, 600.0),
        (DATA, 0.2, 600.0),
        ({"phase": "loading the model"}, None, 1800.0),
        ({"phase": "saving"}, 0.2, 1800.0),
    ],
)
def test_it_is_ended_late(changes: dict[str, Any], step_s: float | None, limit: float) -> None:
    assert PATIENCE.end_s(pulse(**changes), Known(step_s)) == limit


def test_what_this_run_got_over_is_no_reason_to_end_it() -> None:
    assert PATIENCE.end_s(pulse(), Known(0.2, gap_s=50.0)) == 100.0
    assert PATIENCE.end_s(pulse(), Known(0.2, earlier_s=500.0)) == 60.0


@pytest.mark.parametrize(
    ("changes", "step_s", "gap_s", "limit"),
    [
        ({}, 0.2, 0.0, 10.0),  # the floor
        ({}, 4.0, 0.0, 40.0),  # ten usual steps
        ({}, 50.0, 0.0, 300.0),  # at most so long
        ({}, 200.0, 0.0, 400.0),  # but two usual steps in any case
        ({}, 0.2, 9.0, 27.0),  # what it got over before
        ({}, 0.2, 500.0, 45.0),  # never as late as it would be ended
        ({}, None, 0.0, 60.0),  # the first step
        (DATA, 30.0, 0.0, 10.0),
        ({"phase": "tokenizing"}, None, 0.0, 10.0),
        ({"phase": "saving"}, 0.2, 0.0, 30.0),
        ({"phase": "saving"}, 0.2, 200.0, 600.0),
        ({"phase": "compiling"}, None, 0.0, 120.0),
        ({"phase": "a phase of another version"}, None, 0.0, 30.0),
    ],
)
def test_it_is_noticed_early(
    changes: dict[str, Any], step_s: float | None, gap_s: float, limit: float
) -> None:
    assert PATIENCE.notice_s(pulse(**changes), Known(step_s, earlier_s=gap_s)) == limit


def test_a_stall_is_always_noticed_before_it_is_ended() -> None:
    for hurried in (PATIENCE, Patience(beating_s=9.0, ended_s=3.0)):
        for step_s in (None, 0.01, 1.0, 50.0, 5000.0):
            for gap_s in (0.0, 1.0, 1e5):
                for changes in ({}, DATA, {"phase": "compiling"}, {"phase": "reading"}):
                    reading, known = pulse(**changes), Known(step_s, gap_s, gap_s)
                    assert hurried.notice_s(reading, known) < hurried.end_s(reading, known)
