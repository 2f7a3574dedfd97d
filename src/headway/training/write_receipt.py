"""Receipt of an attempt, built from plan, totals and measurements."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from headway.base.errors import Cause, Exit, Finding, Refusal, exit_code
from headway.data.order import RowOrder
from headway.model.sizes import flops_per_token, shape_of
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
from headway.training.ledger import Totals


@dataclass(frozen=True)
class Closing:
    """What an attempt knows at its end, besides its plan and its totals."""

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
    refined_s: float | None  # the attempt's seconds, as estimated after three steps
    peak_memory: int
    peak_flops: float
    versions: Mapping[str, str]


def make_receipt(
    closing: Closing, plan: Plan, settled: Settled, order: RowOrder, totals: Totals
) -> Receipt:
    """Judge an attempt."""
    probe, held_out = _losses(closing)
    facts = Facts(
        outcome=closing.outcome,
        why=closing.why,
        planned_steps=plan.steps.num,
        applied_steps=totals.job_step,
        rows=_rows(plan, order, totals),
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


def _rows(plan: Plan, order: RowOrder, totals: Totals) -> ReceiptRows:
    """Planned and trained rows; an interrupted run is compared with the steps that it took."""
    rows, done = plan.data.rows, totals.job_step
    applications = order.rows_in(done)
    return ReceiptRows(
        read=totals.read_cursor.read if totals.read_cursor else plan.data.records.read,
        rejected=totals.read_cursor.rejected if totals.read_cursor else plan.data.records.rejected,
        accepted=rows.accepted,
        held_out=rows.held_out,
        planned=rows.planned,
        not_planned=rows.not_planned,
        trained=min(totals.applications, order.rows_per_epoch),
        applications_planned=rows.applications,
        applications=totals.applications,
        missing=max(0, applications - totals.applications),
        repeated=max(0, totals.applications - applications),
        row_sum=totals.row_sum,
        row_sum_planned=rows.row_sum if done == plan.steps.num else order.row_sum(done),
    )


def _environment(closing: Closing, plan: Plan, settled: Settled) -> dict[str, str]:
    machine = plan.machine
    return {
        **closing.versions,
        "cpu": machine.cpu,
        "device": machine.device,
        "threads": str(machine.threads),
        "workers": str(machine.workers),
        "leaves": str(plan.steps.leaves),
        "compute_dtype": settled.compute_dtype,
        "trust_remote_code": str(plan.model.trust_remote_code).lower(),
    }
