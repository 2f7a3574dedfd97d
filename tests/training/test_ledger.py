"""The ledger: sums of what was applied, kept apart from the order that it is compared with."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.jobs import STATE

from headway.data.order import StoreOrder, row_hash
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.receipt import StepReport
from headway.training.ledger import Totals


def report(step: int, epoch: int = 0, loss: float = 2.0, computed: int = 12) -> StepReport:
    return StepReport(step, 100 + step, epoch, loss, 0.5, 1e-3, 4, 0, 8, 10, computed, 0.25)


@given(st.integers(1, 40), st.booleans(), st.integers(1, 7), st.integers(0, 60))
def test_applied_rows_add_up_to_what_was_planned(
    full: int, short: bool, batch: int, num: int
) -> None:
    order, totals = StoreOrder(42, full, short, 0, batch), Totals()
    for step in range(1, num + 1):
        epoch, rows = order.rows(step)
        totals = totals.add(report(step, epoch), rows[::-1], rows)
    assert totals.row_sum == order.row_sum(num)
    assert totals.applications == order.rows_in(num)
    assert totals.job_step == totals.optimizer_steps == num


def test_rows_of_earlier_runs_are_counted_apart() -> None:
    order, totals = StoreOrder(42, 20, False, 0, 4), Totals()
    for step in range(1, 6):
        _, rows = order.rows(step)
        both = np.append(rows, -step)
        totals = totals.add(report(step), both[::-1], both)
    assert (totals.applications, totals.row_sum) == (20, order.row_sum(5))
    assert (totals.replayed, totals.replay_sum) == (5, row_hash(np.arange(-5, 0), 0))
    assert (totals.num_missing, totals.num_repeated) == (0, 0)
    totals = totals.add(report(6), np.array([-7]), np.array([-8]))
    assert (totals.num_missing, totals.num_repeated) == (1, 1)
    assert totals.row_sum == order.row_sum(5)


def test_sums_and_ends() -> None:
    totals = Totals(optimizer_steps=2488)
    for step, loss in ((1, 3.0), (2, 2.5), (3, 2.25)):
        totals = totals.add(report(step, loss=loss), np.array([step]), np.array([step]))
    assert (totals.loss_first, totals.loss_last) == (3.0, 2.25)
    assert (totals.input_tokens, totals.trained_tokens) == (30, 24)
    assert totals.optimizer_steps == 2491  # the parent's, and ours
    assert totals.step_seconds == 0.75
    tokens = totals.tokens(truncated=7)
    assert (tokens.input, tokens.trained, tokens.truncated) == (30, 24, 7)
    assert (tokens.padding, tokens.padding_share) == (6, pytest.approx(1 / 6))


def test_nothing_applied_divides_by_nothing() -> None:
    assert Totals().tokens(0).padding_share == 0
    assert Totals().speed(1e6, 1e9).tokens_per_second == 0


def test_speed_is_over_the_time_inside_steps() -> None:
    totals = Totals()
    totals = totals.add(report(1), np.array([1]), np.array([1]))
    found = totals.speed(flops_per_token=100, peak_flops=8000)
    assert (found.tokens_per_second, found.trained_tokens_per_second) == (40, 32)
    assert (found.flops_per_second, found.mfu) == (4800, 0.6)
    assert totals.speed(100, None).mfu is None


def test_a_checkpoints_state_holds_all_totals() -> None:
    names = {one.name for one in fields(Totals)}
    assert names <= {one.name for one in fields(CheckpointState)}
    totals = Totals.from_state(STATE)
    assert {name: getattr(totals, name) for name in names} == {
        name: getattr(STATE, name) for name in names
    }


def test_a_swapped_row_is_noticed() -> None:
    order, totals = StoreOrder(42, 8, False, 0, 4), Totals()
    for step in (1, 2):
        epoch, rows = order.rows(step)
        totals = totals.add(report(step, epoch), np.where(rows == 3, 5, rows), rows)
    assert totals.applications == order.rows_in(2)  # the count is right
    assert totals.row_sum != order.row_sum(2)
    assert (totals.num_missing, totals.num_repeated) == (1, 1)
    assert totals.deviations == {"1:3": -1, "1:5": 1}
    assert row_hash(np.array([3]), 0) != row_hash(np.array([5]), 0)


def test_a_batch_that_comes_twice_is_counted_row_by_row() -> None:
    order, totals = StoreOrder(42, 16, False, 0, 4), Totals()
    first = order.rows(1)[1]
    for step in range(1, 5):
        epoch, rows = order.rows(step)
        totals = totals.add(report(step, epoch), first if step == 3 else rows, rows)
    assert (totals.num_missing, totals.num_repeated) == (4, 4)
    assert totals.applications == order.rows_in(4)


def test_rows_that_only_change_places_between_steps_are_no_deviation() -> None:
    order, totals = StoreOrder(42, 8, False, 0, 4), Totals()
    (_, first), (_, second) = order.rows(1), order.rows(2)
    totals = totals.add(report(1), second, first).add(report(2), first, second)
    assert totals.deviations == {}
    assert totals.row_sum == order.row_sum(2)
