"""Settings that can be left out: each has a reason, and some of their values another answer."""

import itertools

import pytest

from headway.config.other_tools.lookup import answer
from headway.config.other_tools.meaning import Outcome
from headway.config.other_tools.not_needed import NOT_NEEDED
from headway.config.resolve import resolve
from headway.config.settings import Given

NAMES = [name for meaning in NOT_NEEDED for name in meaning.names.split()]


def test_each_name_has_a_reason() -> None:
    for name, value in itertools.product(NAMES, (True, "1", "false")):
        found = answer(name, value)
        assert found
        assert found.because
        assert found.outcome in (Outcome.NOT_NEEDED, Outcome.NOT_HERE)


def test_every_line_that_stands_for_a_value_is_one_that_headway_takes() -> None:
    answers = [found for meaning in NOT_NEEDED for found in meaning.values.values()]
    assert answers
    for found in answers:
        assert not isinstance(found, str)
        resolve([Given(name, value, "you") for name, value in found.lines])


@pytest.mark.parametrize(
    ("name", "value", "decides"),
    [
        ("stage", "dpo", True),
        ("shuffle", "false", True),
        ("dataset_text_field", "body", True),
        ("template", "alpaca", True),
        ("save_strategy", "epoch", False),
        ("eval_strategy", "epoch", False),
    ],
)
def test_a_value_that_cannot_be_done_is_no_thing_to_leave_out(
    name: str, value: str, decides: bool
) -> None:
    found = answer(name, value)
    assert found
    assert found.outcome is Outcome.NOT_HERE
    assert found.decides is decides
