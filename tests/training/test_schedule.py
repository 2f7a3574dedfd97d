"""L07: the learning rate is greater than 0 on every planned step, whatever the schedule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.runs.plan import LearningPlan
from headway.training.optimizer import learning_rate

KINDS = ("cosine", "linear", "constant")
JOBS = st.integers(1, 300).flatmap(lambda num: st.tuples(st.just(num), st.integers(0, num - 1)))


def plan(schedule: Any, warmup: int = 0, peak: float = 1e-3) -> LearningPlan:
    return LearningPlan("adamw", peak, schedule, warmup, 0.1, 0.9, 0.95, 1e-8, 1.0)


def rates(schedule: str, warmup: int, num: int) -> list[float]:
    return [learning_rate(plan(schedule, warmup), step, num) for step in range(1, num + 1)]


@given(JOBS, st.sampled_from(KINDS))
def test_l07_every_planned_step_can_move_weights(job: tuple[int, int], kind: str) -> None:
    num, warmup = job
    found = rates(kind, warmup, num)
    assert all(0 < rate <= 1e-3 for rate in found)
    assert max(found) == found[warmup] == 1e-3  # the peak, right after the warm-up
    assert found[: warmup + 1] == sorted(found[: warmup + 1])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)


@given(st.integers(1, 10**12), st.floats(0, 0.999), st.sampled_from(KINDS), st.floats(1e-8, 1.0))
def test_l07_the_last_step_of_a_job_of_any_length_can_move_weights(
    num: int, share: float, kind: str, peak: float
) -> None:
    assert learning_rate(plan(kind, int(share * num), peak), num, num) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_one_step_runs_at_the_peak(kind: str) -> None:
    assert rates(kind, 0, 1) == [1e-3]


def test_warm_up_begins_above_0_and_the_peak_is_after_it() -> None:
    assert rates("constant", 3, 6) == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_the_floor_comes_after_the_last_step_not_on_it() -> None:
    assert rates("linear", 0, 4) == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert rates("cosine", 0, 4)[2] == pytest.approx(0.5e-3)
    for kind in ("linear", "cosine"):
        assert learning_rate(plan(kind), 5, 4) == pytest.approx(0, abs=1e-12)


def test_no_warm_up_but_one_step_of_it_halves_the_first_rate() -> None:
    assert rates("constant", 1, 3)[0] == pytest.approx(0.5e-3)
