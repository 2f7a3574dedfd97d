"""The ledger: sums of what was applied, kept apart from the order that it is compared with."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.order import StoreOrder, row_hash
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.receipt import StepReport
from headway.training.ledger import Ledger


def report(step: int, epoch: int = 0, loss: float = 2.0, computed: int = 12) -> StepReport:
    return StepReport(step, 100 + step, epoch, loss, 0.5, 1e-3, 4, 8, 10, computed, 0.25)


@given(st.integers(1, 40), st.booleans(), st.integers(1, 7), st.integers(0, 60))
def test_applied_rows_add_up_to_what_was_planned(
    full: int, short: bool, batch: int, num: int
) -> None:
    order, ledger = StoreOrder(42, full, short, 0, batch), Ledger()
    for step in range(1, num + 1):
        epoch, rows = order.rows(step)
        ledger.add(report(step, epoch), rows[::-1])
    assert ledger.row_sum == order.row_sum(num)
    assert ledger.applications == order.rows_in(num)
    assert ledger.job_step == ledger.optimizer_steps == num


def test_sums_and_ends() -> None:
    ledger = Ledger(optimizer_steps=2488)
    for step, loss in ((1, 3.0), (2, 2.5), (3, 2.25)):
        ledger.add(report(step, loss=loss), np.array([step]))
    assert (ledger.loss_first, ledger.loss_last) == (3.0, 2.25)
    assert (ledger.input_tokens, ledger.trained_tokens) == (30, 24)
    assert ledger.optimizer_steps == 2491  # the parent's, and ours
    assert ledger.attempt_seconds == [0.25] * 3
    tokens = ledger.tokens(truncated=7)
    assert (tokens.input, tokens.trained, tokens.truncated) == (30, 24, 7)
    assert (tokens.padding, tokens.padding_share) == (6, pytest.approx(1 / 6))


def test_nothing_applied_divides_by_nothing() -> None:
    assert Ledger().tokens(0).padding_share == 0
    assert Ledger().speed(1e6, 1e9).tokens_per_second == 0


def test_speed_is_over_the_time_inside_steps() -> None:
    ledger = Ledger()
    ledger.add(report(1), np.array([1]))
    found = ledger.speed(flops_per_token=100, peak_flops=8000)
    assert (found.tokens_per_second, found.trained_tokens_per_second) == (40, 32)
    assert (found.flops_per_second, found.mfu) == (4800, 0.6)
    assert ledger.speed(100, None).mfu is None


def test_a_checkpoints_state_holds_every_sum_but_this_attempts_times() -> None:
    own = {one.name for one in fields(Ledger)}
    assert own - {one.name for one in fields(CheckpointState)} == {"attempt_seconds"}


def test_a_swapped_row_is_noticed() -> None:
    order, ledger = StoreOrder(42, 8, False, 0, 4), Ledger()
    for step in (1, 2):
        epoch, rows = order.rows(step)
        ledger.add(report(step, epoch), np.where(rows == 3, 5, rows))
    assert ledger.applications == order.rows_in(2)  # the count is right
    assert ledger.row_sum != order.row_sum(2)
    assert row_hash(np.array([3]), 0) != row_hash(np.array([5]), 0)
