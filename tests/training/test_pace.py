"""Pace: what is left of a run, and steps that take longer than they used to."""

from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of

from headway.base.errors import Cause, Finding
from headway.training.pace import Pace, estimate_remaining_s

PLAN = plan_of(in_memory(1601), max_length=16)


@pytest.mark.parametrize(
    ("changes", "steps_left", "seconds"),
    [
        ({"every_steps": 1000}, 100, 100 * 0.5 + 3 + 2 + 1),
        ({"every_steps": 1000, "eval_steps": 10}, 100, 100 * 0.5 + 3 + 2 + 11),
        ({"every_steps": 1000}, 0, 3 + 2 + 1),
    ],
)
def test_the_rest_is_estimated_from_what_the_phases_took(
    changes: dict[str, Any], steps_left: int, seconds: float
) -> None:
    saves = replace(PLAN.saves, every_steps=changes["every_steps"], bytes_each=0)
    evaluation = replace(PLAN.evaluation, eval_steps=changes.get("eval_steps", 0))
    plan = replace(PLAN, saves=saves, evaluation=evaluation)
    took = {"loading the model": 3.0, "probing": 2.0, "evaluating": 1.0}
    assert estimate_remaining_s(plan, steps_left, 0.5, took) == pytest.approx(seconds, abs=0.1)


def noticed(*durations: tuple[int, float]) -> list[tuple[int, Finding]]:
    """What is told of so many steps of so many seconds each, and after which step."""
    pace, told = Pace("a step takes"), list[tuple[int, Finding]]()
    every = [took_s for num, took_s in durations for _ in range(num)]
    for step, took_s in enumerate(every, 1):
        finding = pace.add(took_s)
        told += [(step, finding)] if finding else []
    return told


def test_a_steady_pace_is_nothing_to_tell() -> None:
    assert noticed((3, 30.0), (500, 1.0)) == []  # the first steps are slow
    assert noticed((100, 1.0), (1, 60.0), (100, 1.0)) == []  # and one may be
    assert noticed((100, 1.0), (100, 1.9)) == []


def test_steps_that_take_twice_as_long_are_told_once() -> None:
    ((step, finding),) = noticed((103, 0.5), (200, 1.1))
    assert step == 123
    assert finding.what == "a step takes 2.2 times as long as before"
    assert finding.have == "1.1 s, and 500 ms before (medians of 20 steps)"
    assert finding.cause is Cause.SLOWER


def test_steps_that_get_fast_and_slow_again_are_told_once() -> None:
    slow_and_fast = [(40, 0.2), (40, 0.04)] * 9
    assert len(noticed((43, 0.05), *slow_and_fast)) == 1
    assert len(noticed((43, 0.05), *slow_and_fast, (40, 0.5))) == 2


def test_each_doubling_is_told_and_a_slow_growth_too() -> None:
    assert len(noticed((43, 1.0), (40, 2.5), (40, 6.0))) == 2
    growing = [(1, 1.0 + 0.01 * n) for n in range(400)]
    assert [round(1.0 + 0.01 * step) for step, _ in noticed(*growing)] == [2, 5]


def test_a_fast_stretch_is_what_later_ones_are_compared_with() -> None:
    assert len(noticed((43, 1.5), (40, 1.0), (40, 2.1))) == 1


def test_a_difference_that_nobody_waits_for_is_not_told() -> None:
    assert noticed((43, 0.001), (100, 0.01)) == []
