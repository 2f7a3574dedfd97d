"""Row order: one function for planner, trainer and verify."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.helpers import in_memory, plan_of
from tests.helpers import order_of as order_by_hand

from headway.data.order import StoreOrder
from headway.runs.order import order_of
from headway.runs.plan import Plan, StreamPlan, load_plan

SOURCE = Path(__file__).parents[2] / "src" / "headway"
NOTES = Path(__file__).parents[1] / "failures" / "releases" / "0.1.0" / "notes"
EVEN, WITH_SHORT = in_memory(1601), in_memory(1610)  # 100 rows of 16, and a shorter one


def streamed(plan: Plan, steps_per_window: int) -> Plan:
    stream = StreamPlan("/tmp/stream", steps_per_window, cast("Any", None))
    return replace(plan, data=replace(plan.data, stream=stream))


@pytest.mark.parametrize("store", [EVEN, WITH_SHORT], ids=["full rows", "a short row"])
@pytest.mark.parametrize("given", [{}, {"val_size": 20}, {"max_steps": 7}, {"seed": 5}], ids=str)
def test_the_order_of_a_plan_is_that_of_its_data(store: Any, given: dict[str, Any]) -> None:
    plan = plan_of(store, max_length=16, batch_size=4, **given)
    order = order_of(plan)
    assert order == order_by_hand(plan, store)
    assert isinstance(order, StoreOrder)
    assert order.has_short == (store is WITH_SHORT)


@pytest.mark.parametrize("store", [EVEN, WITH_SHORT], ids=["full rows", "a short row"])
def test_the_planner_counts_and_sums_rows_by_the_same_order(store: Any) -> None:
    plan = plan_of(store, max_length=16, batch_size=4, val_size=20, num_train_epochs=2)
    order, rows = order_of(plan), plan.data.rows
    assert order.row_sum(plan.steps.num) == rows.row_sum
    assert order.rows_in(plan.steps.num) == rows.applications
    assert (order.rows_per_epoch, order.steps_per_epoch) == (rows.planned, plan.steps.per_epoch)


def test_the_order_of_a_stream_is_an_estimate() -> None:
    plan = streamed(plan_of(EVEN, max_length=16, batch_size=4, val_size=20), 5)
    assert order_of(plan) == StoreOrder(plan.seed, 100, False, 20, 4)


def test_the_order_of_an_old_plan_is_unchanged() -> None:
    plan = load_plan(NOTES)
    assert order_of(plan).row_sum(plan.steps.num) == plan.data.rows.row_sum


def test_no_other_file_makes_an_order() -> None:
    makers = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if " StoreOrder(" in path.read_text()
    ]
    assert sorted(set(makers) - {"data/order.py"}) == ["planning/streaming.py", "runs/order.py"]
