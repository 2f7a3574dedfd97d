"""Routing: the plan says how long workers would wait for the busiest of them."""

import pytest
from tests.helpers import TINY, decided, in_memory, order_of

from headway.data.batching.rows import rows_of
from headway.model.sizes import ModelShape, flops_per_token, shape_of, square_weight
from headway.planning.step_layout import StepLayout
from headway.planning.workers.routing import idle_share
from headway.runs.workers import WorkerTree

TEXT = in_memory(100_000)


@pytest.mark.parametrize(("workers", "idle"), [(1, 0), (2, 0), (3, 1 / 9), (4, 0), (8, 0)])
def test_rows_of_one_length_leave_only_workers_without_a_leaf_idle(
    workers: int, idle: float
) -> None:
    plan = decided(TEXT, TINY, batch_size=64, max_length=64, max_steps=3)
    rows, tree = rows_of(TEXT, 64), WorkerTree(workers)
    order = order_of(plan, TEXT)
    found = idle_share(rows, order, StepLayout(8, 2048), shape_of(plan.model.config), tree)
    assert found == pytest.approx(idle, abs=1e-6)


def test_the_plan_has_the_idle_share() -> None:
    plan = decided(TEXT, TINY, batch_size=64, max_length=64, nproc=3, max_steps=3)
    assert plan.machine.idle_share > 0
    assert decided(TEXT, TINY, batch_size=64, max_length=64).machine.idle_share == 0


def test_squares_weigh_what_their_flops_do() -> None:
    shape: ModelShape = shape_of(decided(TEXT, TINY, max_length=64).model.config)
    flops = [flops_per_token(shape, length) for length in (0, 512)]
    assert 512 * square_weight(shape) == pytest.approx(flops[1] / flops[0] - 1)
