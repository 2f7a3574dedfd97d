"""Rows to try a model on: of the first step, and with a common prefix if there are any."""

from dataclasses import replace
from pathlib import Path

from tests.helpers import order_of, plan_of
from tests.training.jobs import planned
from tests.training.prompted import SYSTEM, prompted

from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.training.trials.rows_to_try import first_rows


def test_rows_of_one_prompt_are_computed_in_full_and_shared(tmp_path: Path) -> None:
    store = prompted(tmp_path)
    plan = plan_of(store, batch_size=32)
    some, prefixed = first_rows(rows_of(store, plan.data.max_length), order_of(plan, store), plan)
    assert len(some.rows_R)
    assert prefixed is not None
    whole, shared = prefixed
    assert sorted(whole.rows_R) == sorted(shared.rows_R)
    assert 0 < len(whole.ids_N) - len(shared.ids_N) <= SYSTEM
    assert sorted(whole.targets_M.tolist()) == sorted(shared.targets_M.tolist())
    assert len(some.targets_M) > 8
    for micro in (some, whole):
        assert len(micro.ids_N) <= plan.steps.tokens / 8


def test_nothing_is_searched_if_nothing_is_to_be_shared(tmp_path: Path) -> None:
    store = prompted(tmp_path)
    plan = plan_of(store, batch_size=32)
    plan = replace(plan, steps=replace(plan.steps, share_prefixes=False))
    rows = rows_of(store, plan.data.max_length)
    assert first_rows(rows, order_of(plan, store), plan)[1] is None


def test_some_are_of_the_first_step(here: Path) -> None:
    plan, store = planned(here), Store(here / "text")
    order = order_of(plan, store)
    some, _ = first_rows(rows_of(store, plan.data.max_length), order, plan)
    assert set(some.rows_R) <= set(order.rows(1)[1])
