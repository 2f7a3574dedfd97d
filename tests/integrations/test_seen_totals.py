"""Seen totals: what is added up, and what is left open when one step does not tell it."""

import math
from typing import Any

import pytest

from headway.base.events import StepDone
from headway.integrations import seen_totals
from headway.integrations.batch_counts import StepCounts
from headway.integrations.seen_totals import SeenTotals

COUNTS = StepCounts(2, 20, 10, 4, (11, 12))


def step(number: int, loss: float = 2.0, **given: Any) -> StepDone:
    defaults: dict[str, Any] = {
        "epoch": 1,
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "rows": 2,
        "trained_tokens": 10,
        "input_tokens": 20,
        "computed_tokens": 24,
        "seconds": 0.1,
    }
    return StepDone(step=number, global_step=number, loss=loss, **defaults | given)


def totals(*counts: StepCounts) -> SeenTotals:
    made = SeenTotals()
    for number, one in enumerate(counts, start=1):
        made.add(step(number), one)
    return made


def test_rows_that_came_equally_often_are_proved() -> None:
    found = totals(COUNTS, COUNTS).seen(2)
    assert (found.applications, found.distinct, found.all_equally_often) == (4, 2, True)
    twice = totals(COUNTS, StepCounts(2, 20, 10, 4, (11, 11))).seen(2)
    assert (twice.times_least, twice.times_most, twice.all_equally_often) == (1, 3, False)
    assert not totals(COUNTS).seen(3).all_equally_often
    assert totals(COUNTS).seen(3).unseen == 1
    assert not totals(COUNTS).seen(None).all_equally_often


@pytest.mark.parametrize(
    ("field", "open_"),
    [
        ("rows", "applications"),
        ("input", "input"),
        ("trained", "trained"),
        ("padding", "padding"),
        ("contents", "distinct"),
    ],
)
def test_what_one_step_does_not_tell_stays_open(field: str, open_: str) -> None:
    found = totals(COUNTS, StepCounts(**vars(COUNTS) | {field: None}), COUNTS)
    both = vars(found.seen(2)) | vars(found.tokens())
    assert both.pop(open_) is None
    if field != "rows":
        assert both["applications"] == 6
        assert None not in both.values()


def test_too_many_rows_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_totals, "MOST_CONTENTS", 3)
    found = totals(COUNTS, COUNTS, COUNTS).seen(2)
    assert (found.applications, found.distinct) == (6, None)


def test_losses_are_compared_at_both_ends() -> None:
    made = SeenTotals()
    for number in range(1, 13):
        made.add(step(number, loss=4.0 - number / 4), COUNTS)
    made.evaluations = [3.0, 2.0]
    learned = made.learned(None)
    assert learned.loss is not None
    assert (learned.averaged, learned.loss.before, learned.loss.after) == (3, 3.5, 1.25)
    assert learned.loss.rows == 12
    assert learned.held_out is not None
    assert (learned.loss_first, learned.loss_last) == (3.75, 1.0)
    assert learned.rate_max == 1e-3


def test_losses_that_are_not_known_are_not_compared() -> None:
    made = SeenTotals()
    for number in range(1, 13):
        made.add(step(number, loss=math.nan), COUNTS, loss_known=False)
    made.evaluations = [math.nan, 2.0]
    learned = made.learned(None)
    assert (learned.loss, learned.loss_first, learned.held_out) == (None, None, None)
