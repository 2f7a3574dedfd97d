"""The end of an attempt, put together: plan, ledger and measurements -> receipt."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from headway.base.errors import Exit, Finding, Refusal, exit_code
from headway.data.order import RowOrder
from headway.model.sizes import flops_per_token, shape_of
from headway.runs.plan import Plan
from headway.runs.receipt import (
    SCHEMA,
    Facts,
    ForetoldActual,
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
from headway.training.ledger import Ledger


@dataclass(frozen=True)
class Closing:
    """What an attempt knows at its end, besides its plan and its ledger."""

    run: str
    outcome: Literal["finished", "interrupted", "failed"]
    why: str  # what ended it early, "" when nothing did
    attempts: int
    before: Losses
    after: Losses | None
    tensors: TensorAudit | None
    checkpoint: ReceiptCheckpoint | None
    seconds: float  # of this attempt
    by_phase: Mapping[str, float]
    to_first_step: float | None
    max_silence: float
    refined_s: float | None  # the attempt's seconds, as foretold after three steps
    peak_memory: int
    peak_flops: float
    versions: Mapping[str, str]


def write_up(closing: Closing, plan: Plan, order: RowOrder, ledger: Ledger) -> Receipt:
    """Judge an attempt and write it up."""
    probe, held_out = _compared(closing)
    not_finite = closing.outcome == "failed" and "not finite" in closing.why
    facts = Facts(
        outcome=closing.outcome,
        why=closing.why,
        planned_steps=plan.steps.num,
        applied_steps=ledger.job_step,
        rows=_rows(plan, order, ledger),
        tensors=closing.tensors,
        losses_finite=not not_finite,
        checkpoint=closing.checkpoint,
    )
    contract = judge_contract(facts)
    learning = judge_learning(probe, held_out, ledger.job_step)
    tokens = ledger.tokens(
        ledger.read_cursor.truncated if ledger.read_cursor else plan.data.truncated
    )
    last = plan.steps.first + ledger.job_step
    flops = flops_per_token(
        shape_of(plan.model.config),
        plan.data.lengths.mean,
        ledger.trained_tokens / max(ledger.computed_tokens, 1),
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
        steps=ReceiptSteps(plan.steps.first, last, plan.steps.num, ledger.job_step),
        learning_facts=ReceiptLearning(
            train_probe=probe,
            held_out=held_out,
            loss_first=ledger.loss_first,
            loss_last=ledger.loss_last,
            grad_norm_first=ledger.grad_norm_first,
            grad_norm_last=ledger.grad_norm_last,
            nonfinite_steps=int(not_finite),
            tensors=closing.tensors,
        ),
        time=ReceiptTime(
            total=closing.seconds,
            by_phase={name: round(s, 3) for name, s in closing.by_phase.items() if name},
            to_first_step=closing.to_first_step,
            max_silence=closing.max_silence,
        ),
        speed=ledger.speed(flops, closing.peak_flops),
        plan_against_actual=PlanAgainstActual(
            seconds=ForetoldActual(closing.refined_s, closing.seconds),
            peak_memory=ForetoldActual(plan.memory.peak, closing.peak_memory),
            padding_share=ForetoldActual(plan.data.padding, tokens.padding_share),
        ),
        checkpoint=closing.checkpoint,
        environment=_environment(closing, plan),
        contract=contract,
        learning=learning,
        line=closing_line(facts, contract, learning, probe, held_out),
    )


def code_of(receipt: Receipt, failure: Refusal | None, stopped: Exit) -> Exit:
    """What the process says when it ends.

    Args:
        receipt: of the run.
        failure: what ended it, if anything did.
        stopped: the code of whoever asked it to stop.
    """
    if failure:
        return exit_code(failure)
    if receipt.contract.verdict == "broken":
        return Exit.BROKEN
    if receipt.outcome == "interrupted":
        return stopped
    return Exit.BROKEN if receipt.learning.verdict == "not" else Exit.KEPT


def finding_of(receipt: Receipt) -> Finding | None:
    """What to tell a person whose run ended badly without anything having failed."""
    if receipt.contract.verdict == "broken":
        return Finding("refused", receipt.contract.reasons[0], receipt.line, "what was planned")
    if receipt.learning.verdict == "not":
        return Finding("refused", "it did not learn", receipt.line, "a lower loss on trained rows")
    return None


def _compared(closing: Closing) -> tuple[Loss | None, Loss | None]:
    if closing.after is None:
        return None, None
    held_out = None
    if closing.before.held_out and closing.after.held_out:
        held_out = loss_between(closing.before.held_out, closing.after.held_out)
    return loss_between(closing.before.probe, closing.after.probe), held_out


def _rows(plan: Plan, order: RowOrder, ledger: Ledger) -> ReceiptRows:
    """Planned beside trained; an interrupted run is held to the steps that it took."""
    rows, done = plan.data.rows, ledger.job_step
    applications = order.rows_in(done)
    return ReceiptRows(
        read=ledger.read_cursor.read if ledger.read_cursor else plan.data.records.read,
        rejected=ledger.read_cursor.rejected if ledger.read_cursor else plan.data.records.rejected,
        accepted=rows.accepted,
        held_out=rows.held_out,
        planned=rows.planned,
        not_planned=rows.not_planned,
        trained=min(ledger.applications, order.rows_per_epoch),
        applications_planned=rows.applications,
        applications=ledger.applications,
        missing=max(0, applications - ledger.applications),
        repeated=max(0, ledger.applications - applications),
        row_sum=ledger.row_sum,
        row_sum_planned=rows.row_sum if done == plan.steps.num else order.row_sum(done),
    )


def _environment(closing: Closing, plan: Plan) -> dict[str, str]:
    machine = plan.machine
    return {
        **closing.versions,
        "cpu": machine.cpu,
        "device": machine.device,
        "threads": str(machine.threads),
        "workers": str(machine.workers),
        "leaves": str(plan.steps.leaves),
        "compute_dtype": machine.compute_dtype,
        "trust_remote_code": str(plan.model.trust_remote_code).lower(),
    }
