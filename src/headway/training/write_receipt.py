"""Receipt writer: its fields from the plan, the totals and the measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from headway.base.errors import Cause, Exit, Finding, Refusal, exit_code
from headway.base.host.contention import OtherWork
from headway.data.batching.replay import replay_totals
from headway.data.stream.cursor import StreamCursor
from headway.model.sizes import flops_per_token, shape_of
from headway.runs.checkpoint_state import RowsDue
from headway.runs.log_facts import ReceiptStalls
from headway.runs.order import order_of
from headway.runs.plan import Plan
from headway.runs.receipt import (
    SCHEMA,
    EstimatedActual,
    Facts,
    Loss,
    Losses,
    PlanAgainstActual,
    Receipt,
    ReceiptCheckpoint,
    ReceiptLearning,
    ReceiptRows,
    ReceiptSteps,
    ReceiptTime,
    TensorAudit,
    closing_line,
    judge_contract,
    judge_learning,
    loss_between,
)
from headway.runs.settled import Settled
from headway.runs.workers import ReceiptWorker
from headway.training.ledger import Totals


@dataclass(frozen=True)
class Closing:
    """What an attempt knows at its end, in addition to its plan and its totals."""

    run: str
    outcome: Literal["finished", "interrupted", "failed"]
    why: str  # what ended it early, "" if nothing did
    cause: Cause | None  # of a failure, for code
    attempts: int
    before: Losses
    after: Losses | None
    tensors: TensorAudit | None
    checkpoint: ReceiptCheckpoint | None
    seconds: float  # of this attempt
    by_phase: Mapping[str, float]
    to_first_step: float | None
    max_silence: float
    other_work: OtherWork | None
    watching: float  # seconds
    refined_s: float | None  # the attempt's seconds, as estimated after three steps
    peak_memory: int
    peak_flops: float
    versions: Mapping[str, str]
    workers: tuple[ReceiptWorker, ...] = ()
    stalls: ReceiptStalls | None = None


def make_receipt(closing: Closing, plan: Plan, settled: Settled, totals: Totals) -> Receipt:
    """Judge an attempt."""
    probe, held_out = _losses(closing)
    facts = Facts(
        outcome=closing.outcome,
        why=closing.why,
        planned_steps=plan.steps.num,
        applied_steps=totals.job_step,
        rows=_rows(plan, totals, is_finished=closing.outcome == "finished"),
        tensors=closing.tensors,
        losses_finite=closing.cause is not Cause.NOT_FINITE,
        checkpoint=closing.checkpoint,
    )
    contract = judge_contract(facts)
    learning = judge_learning(probe, held_out, totals.job_step)
    tokens = totals.tokens(
        totals.read_cursor.truncated if totals.read_cursor else plan.data.truncated
    )
    last = plan.steps.first + totals.job_step
    flops = flops_per_token(
        shape_of(plan.model.config),
        plan.data.lengths.mean,
        totals.trained_tokens / max(totals.computed_tokens, 1),
    )
    return Receipt(
        schema=SCHEMA,
        run=closing.run,
        outcome=closing.outcome,
        plan=plan.identity,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        attempts=closing.attempts,
        rows=facts.rows,
        tokens=tokens,
        steps=ReceiptSteps(plan.steps.first, last, plan.steps.num, totals.job_step),
        learning_facts=_learning_facts(closing, totals, probe, held_out),
        time=ReceiptTime(
            total=closing.seconds,
            by_phase={name: round(s, 3) for name, s in closing.by_phase.items() if name},
            to_first_step=closing.to_first_step,
            max_silence=closing.max_silence,
            other_work=closing.other_work,
            watching=round(closing.watching, 6),
        ),
        speed=totals.speed(flops, closing.peak_flops),
        plan_against_actual=PlanAgainstActual(
            seconds=EstimatedActual(closing.refined_s, closing.seconds),
            peak_memory=EstimatedActual(plan.memory.peak, closing.peak_memory),
            padding_share=EstimatedActual(plan.data.padding, tokens.padding_share),
        ),
        checkpoint=closing.checkpoint,
        environment=_environment(closing, plan, settled),
        contract=contract,
        learning=learning,
        line=closing_line(facts, contract, learning, probe, held_out),
        workers=closing.workers,
        reduction=settled.reduction if closing.workers else "",
        stalls=closing.stalls,
    )


def _learning_facts(
    closing: Closing, totals: Totals, probe: Loss | None, held_out: Loss | None
) -> ReceiptLearning:
    return ReceiptLearning(
        train_probe=probe,
        held_out=held_out,
        loss_first=totals.loss_first,
        loss_last=totals.loss_last,
        grad_norm_first=totals.grad_norm_first,
        grad_norm_last=totals.grad_norm_last,
        nonfinite_steps=int(closing.cause is Cause.NOT_FINITE),
        tensors=closing.tensors,
    )


def code_of(receipt: Receipt, failure: Refusal | None, stopped: Exit) -> Exit:
    """The process's exit code.

    Args:
        receipt: of the run.
        failure: what ended it, None if nothing did.
        stopped: the code of the stop request.
    """
    if failure:
        return exit_code(failure)
    if receipt.contract.verdict == "broken":
        return Exit.BROKEN
    if receipt.outcome == "interrupted":
        return stopped
    return Exit.BROKEN if receipt.learning.verdict == "not" else Exit.KEPT


def finding_of(receipt: Receipt) -> Finding | None:
    """What to say about a run that ended badly although nothing failed."""
    if receipt.contract.verdict == "broken":
        return Finding(
            "refused",
            receipt.contract.reasons[0],
            receipt.line,
            "what was planned",
            cause=Cause.CONTRACT_BROKEN,
        )
    if receipt.learning.verdict == "not":
        return Finding(
            "refused",
            "the model did not learn",
            receipt.line,
            "a lower loss on trained rows",
            cause=Cause.NOT_LEARNED,
        )
    return None


def _losses(closing: Closing) -> tuple[Loss | None, Loss | None]:
    if closing.after is None:
        return None, None
    held_out = None
    if closing.before.held_out and closing.after.held_out:
        held_out = loss_between(closing.before.held_out, closing.after.held_out)
    return loss_between(closing.before.probe, closing.after.probe), held_out


def _rows(plan: Plan, totals: Totals, *, is_finished: bool) -> ReceiptRows:
    """Planned and trained rows; an interrupted run is compared with the steps that it took."""
    if totals.due and totals.read_cursor:
        return _stream_rows(plan, totals, totals.due, totals.read_cursor, is_finished=is_finished)
    rows, order, done = plan.data.rows, order_of(plan), totals.job_step
    return ReceiptRows(
        read=plan.data.records.read,
        rejected=plan.data.records.rejected,
        accepted=rows.accepted,
        held_out=rows.held_out,
        planned=rows.planned,
        not_planned=rows.not_planned,
        trained=_num_trained(totals, min(order.rows_in(done), order.rows_per_epoch)),
        applications_planned=rows.applications,
        applications=totals.applications,
        missing=totals.num_missing,
        repeated=totals.num_repeated,
        row_sum=totals.row_sum,
        row_sum_planned=rows.row_sum if done == plan.steps.num else order.row_sum(done),
        replayed=totals.replayed,
        replay_sum=totals.replay_sum,
        replay_sum_planned=replay_totals(plan.replay, done)[1] if plan.replay else 0,
    )


def _stream_rows(
    plan: Plan, totals: Totals, due: RowsDue, cursor: StreamCursor, *, is_finished: bool
) -> ReceiptRows:
    """The rows of a stream, counted as they came; what is ahead of an interrupted run is estimated.

    Args:
        plan: with the estimates.
        totals: of the applied steps.
        due: by the windows of these steps.
        cursor: after the last of these windows.
        is_finished: no step is ahead.
    """
    estimated = plan.data.rows
    planned, applications, not_planned = due.distinct, due.rows, cursor.distinct_rows - due.distinct
    if not is_finished:
        planned = max(planned, estimated.planned)
        applications = max(applications, estimated.applications)
        not_planned = estimated.not_planned
    return ReceiptRows(
        read=cursor.read,
        rejected=cursor.rejected,
        accepted=estimated.held_out + planned + not_planned,
        held_out=estimated.held_out,
        planned=planned,
        not_planned=not_planned,
        trained=_num_trained(totals, due.distinct),
        applications_planned=applications,
        applications=totals.applications,
        missing=totals.num_missing,
        repeated=totals.num_repeated,
        row_sum=totals.row_sum,
        row_sum_planned=due.row_sum,
    )


def _num_trained(totals: Totals, num_due: int) -> int:
    """Different rows that were trained.

    Args:
        totals: of the applied steps.
        num_due: different rows that these steps were to train.
    """
    is_one_epoch = all(row.startswith("1:") for row in totals.deviations)
    return num_due - totals.num_missing if is_one_epoch else min(totals.applications, num_due)


def _environment(closing: Closing, plan: Plan, settled: Settled) -> dict[str, str]:
    machine = plan.machine
    return {
        **closing.versions,
        "cpu": machine.cpu,
        "device": machine.device,
        "threads": str(machine.threads),
        "workers": str(settled.workers),
        "leaves": str(plan.steps.leaves),
        "compute_dtype": settled.compute_dtype,
        **({"frozen_weights": "NF4, 4 bits (bitsandbytes)"} if plan.model.load_in_4bit else {}),
        "optim": plan.learning.optim,
        "trust_remote_code": str(plan.model.trust_remote_code).lower(),
    }
