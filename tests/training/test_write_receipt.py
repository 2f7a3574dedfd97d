"""The end of an attempt: plan, ledger and measurements become a receipt that judges itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import in_memory, order_of, plan_of

from headway.base.errors import Cause
from headway.data.stream.cursor import StreamCursor
from headway.data.survey.result import SurveySample
from headway.runs.checkpoint_state import RowsDue
from headway.runs.plan import StreamPlan
from headway.runs.receipt import (
    Losses,
    Measured,
    Receipt,
    ReceiptCheckpoint,
    StepReport,
    TensorAudit,
    load_receipt,
)
from headway.runs.settled import Settled
from headway.training.ledger import Totals
from headway.training.write_receipt import Closing, finding_of, make_receipt

TEXT = in_memory(1601)  # 100 rows of 16
PLAN = plan_of(TEXT, max_length=16, batch_size=4, val_size=20)  # 20 steps
CLOSING = Closing(
    run="notes",
    outcome="finished",
    why="",
    cause=None,
    attempts=2,
    before=Losses(Measured(5.5, 0.01, 4), Measured(5.6, 0.01, 20)),
    after=Losses(Measured(4.5, 0.01, 4), Measured(4.6, 0.01, 20)),
    tensors=TensorAudit(21, 21, 21, 0.1, (), ()),
    checkpoint=ReceiptCheckpoint("checkpoint-20", "5e" * 32, 10**6),
    seconds=12.0,
    by_phase={"training": 10.0004, "": 2.0},
    to_first_step=2.5,
    max_silence=0.4,
    other_work=None,
    watching=0.0123456789,
    refined_s=11.0,
    peak_memory=10**9,
    peak_flops=1e12,
    versions={"torch": "2"},
)


def trained(steps: int, mistake: Any = None) -> Totals:
    """The ledger after some steps; `mistake` changes the rows of the third."""
    order, totals = order_of(PLAN, TEXT), Totals()
    for step in range(1, steps + 1):
        epoch, planned = order.rows(step)
        rows = mistake(planned) if mistake and step == 3 else planned
        report = StepReport(step, step, epoch, 5.0, 1.0, 1e-3, 4, 0, 64, 64, 64, 0.1)
        totals = totals.add(report, rows, planned)
    return totals


def closed(totals: Totals, **changes: Any) -> Receipt:
    closing, settled = replace(CLOSING, **changes), Settled.from_plan(PLAN)
    return make_receipt(closing, PLAN, settled, totals)


def test_the_good_end() -> None:
    receipt = closed(trained(20))
    assert receipt.contract.verdict == "kept"
    assert receipt.learning.verdict == "improved"
    assert receipt.line == (
        "kept: 20 of 20 steps, 80 rows once each · improved: 5.50 -> 4.50 (held out 5.60 -> 4.60)"
    )
    rows = receipt.rows
    assert (rows.accepted, rows.held_out, rows.planned, rows.trained) == (100, 20, 80, 80)
    assert (rows.missing, rows.repeated, rows.not_planned) == (0, 0, 0)
    assert rows.row_sum == rows.row_sum_planned == PLAN.data.rows.row_sum
    steps = receipt.steps
    assert (steps.first, steps.last, steps.planned, steps.applied) == (0, 20, 20, 20)
    assert receipt.time.by_phase == {"training": 10.0}
    assert receipt.time.watching == 0.012346
    assert receipt.plan == PLAN.identity
    assert finding_of(receipt) is None


MISTAKES = {
    "a row lost": (lambda rows: rows[1:], 1, 0),
    "a row twice": (lambda rows: np.append(rows, rows[0]), 0, 1),
    "another row": (lambda rows: np.append(rows[1:], 0), 1, 1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_ledger_that_does_not_add_up_breaks_the_contract(mistake: str) -> None:
    change, missing, repeated = MISTAKES[mistake]
    receipt = closed(trained(20, change))
    assert receipt.contract.verdict == "broken"
    assert "the ledger does not add up" in receipt.contract.reasons[0]
    assert (receipt.rows.missing, receipt.rows.repeated) == (missing, repeated)
    finding = finding_of(receipt)
    assert finding is not None
    assert finding.kind == "refused"


@pytest.mark.parametrize("steps", [0, 3, 19])
def test_an_interrupted_run_is_held_to_the_steps_that_it_took(steps: int) -> None:
    receipt = closed(trained(steps), outcome="interrupted", why="SIGTERM", tensors=None)
    assert receipt.contract.verdict == "kept"
    assert receipt.rows.applications == 4 * steps
    assert (receipt.steps.last, receipt.steps.applied) == (steps, steps)
    assert receipt.line.startswith(f"kept so far: {steps} of 20 steps, saved (SIGTERM)")


def test_an_interrupted_run_that_lost_a_row_is_broken() -> None:
    totals = trained(5, MISTAKES["a row lost"][0])
    receipt = closed(totals, outcome="interrupted", why="SIGTERM", tensors=None)
    assert receipt.contract.verdict == "broken"


def test_a_finished_run_that_took_too_few_steps_is_broken() -> None:
    assert "19 of 20 planned updates applied" in closed(trained(19)).contract.reasons


def test_f30_a_loss_that_was_not_finite_is_counted() -> None:
    why = "a sentence that says nothing"
    changes = {"outcome": "failed", "why": why, "cause": Cause.NOT_FINITE}
    receipt = closed(trained(5), **changes, after=None, tensors=None)
    assert receipt.contract.reasons == (why, "a loss was not finite")
    assert receipt.learning_facts.nonfinite_steps == 1
    assert receipt.learning.verdict == "unclear"
    assert receipt.line == f"broken: {why} (5 of 20 steps)"


def test_weights_that_are_not_finite_are_no_loss_that_was_not_finite() -> None:
    """The saver found them; whether a loss was finite is the step's to say, and not the text's."""
    why = "checkpoint-5 was not written: weights are not finite"
    changes = {"outcome": "failed", "why": why, "cause": Cause.WEIGHTS_NOT_FINITE}
    receipt = closed(trained(5), **changes, after=None, tensors=None)
    assert receipt.contract.reasons == (why,)
    assert receipt.learning_facts.nonfinite_steps == 0
    assert receipt.line == f"broken: {why} (5 of 20 steps)"


def test_a_run_that_did_not_learn_is_told() -> None:
    receipt = closed(trained(20), before=CLOSING.after, after=CLOSING.before)
    assert receipt.contract.verdict == "kept"
    assert receipt.learning.verdict == "not"
    finding = finding_of(receipt)
    assert finding is not None
    assert finding.what == "the model did not learn"


def test_estimates_stand_beside_measurements() -> None:
    against = closed(trained(20)).plan_against_actual
    assert (against.seconds.foretold, against.seconds.actual) == (11.0, 12.0)
    assert (against.peak_memory.foretold, against.peak_memory.actual) == (PLAN.memory.peak, 10**9)
    assert (against.padding_share.foretold, against.padding_share.actual) == (0, 0)


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    receipt = closed(trained(20))
    receipt.save(tmp_path)
    assert load_receipt(tmp_path) == receipt


# -- a stream --------------------------------------------------------------------------------

STREAM = replace(
    PLAN, data=replace(PLAN.data, stream=StreamPlan("/tmp/stream", 5, SurveySample(1, 1, 1, 0.1)))
)


def streamed(due: RowsDue, cursor: StreamCursor, **changes: Any) -> Receipt:
    totals = replace(
        trained(20), row_sum=due.row_sum, applications=due.rows, due=due, read_cursor=cursor
    )
    closing = replace(CLOSING, **changes)
    return make_receipt(closing, STREAM, Settled.from_plan(STREAM), totals)


def test_rows_of_a_stream_are_those_that_came() -> None:
    """The plan said 80; there were 46 in an epoch of 6 steps, and 20 steps are 3.3 epochs."""
    cursor = StreamCursor(window=4, rows=184, first_epoch_rows=46, read=212, rejected={"blank": 28})
    receipt = streamed(RowsDue(154, 7, 46), cursor)
    rows = receipt.rows
    assert receipt.contract.verdict == "kept"
    assert (rows.planned, rows.trained, rows.not_planned, rows.accepted) == (46, 46, 0, 66)
    assert (rows.applications, rows.applications_planned) == (154, 154)
    assert (rows.read, rows.rejected) == (212, {"blank": 28})
    assert "30 rows 3 times, 16 4 times" in receipt.line


def test_rows_of_a_stream_that_were_read_and_not_due_are_not_planned() -> None:
    cursor = StreamCursor(window=1, rows=46, first_epoch_rows=46, read=46)
    rows = streamed(RowsDue(40, 7, 40), cursor).rows
    assert (rows.planned, rows.trained, rows.not_planned, rows.accepted) == (40, 40, 6, 66)


def test_a_stream_that_trained_other_rows_than_came_is_broken() -> None:
    cursor = StreamCursor(window=1, rows=46, first_epoch_rows=46, read=46)
    totals = replace(trained(20), row_sum=8, due=RowsDue(80, 7, 46), read_cursor=cursor)
    receipt = make_receipt(CLOSING, STREAM, Settled.from_plan(STREAM), totals)
    assert receipt.contract.verdict == "broken"


def test_what_is_ahead_of_an_interrupted_stream_is_estimated() -> None:
    cursor = StreamCursor(window=1, rows=30, read=30)
    changes = {"outcome": "interrupted", "why": "SIGTERM", "tensors": None}
    rows = streamed(RowsDue(12, 7, 12), cursor, **changes).rows
    assert (rows.planned, rows.applications_planned, rows.trained) == (80, 80, 12)
    assert rows.accepted == rows.held_out + rows.planned + rows.not_planned
