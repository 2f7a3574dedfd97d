"""Remaining time: what is left of a run, from what its phases took so far."""

from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of

from headway.training.remaining_time import estimate_remaining_s

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
