"""What a receipt says, beside what the plan, the log and the judges say of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headway.base.events import Ended, LogEntry, Probed, StepDone, StopAsked
from headway.base.units import plural
from headway.base.version import __version__
from headway.runs.order import order_of
from headway.runs.plan import Plan, identity_of
from headway.runs.receipt import (
    Facts,
    Loss,
    Receipt,
    closing_line,
    judge_contract,
    judge_learning,
)

NO_END = "the log ends before the run does"


@dataclass(frozen=True)
class Claim:
    """One thing that a receipt says, beside what the folder says."""

    name: str
    claimed: Any
    found: Any  # None where it could not be computed again
    by: str  # what it was computed from, or why it could not be
    holds: bool | None  # None: could not be computed again


def claim(name: str, claimed: Any, found: Any, by: str) -> Claim:
    """What the receipt says and what was found; the same as JSON is the same."""
    claimed, found = _plain(claimed), _plain(found)
    return Claim(name, claimed, found, by, claimed == found)


def unchecked(name: str, claimed: Any, why: str) -> Claim:
    """What the receipt says, and why it could not be computed again."""
    return Claim(name, _plain(claimed), None, why, None)


def _plain(value: Any) -> Any:
    """As JSON has it: no tuples, and null for what is not finite."""
    return msgspec.json.decode(msgspec.json.encode(value))


# -- against the plan and the log ------------------------------------------------------------


def against_plan(receipt: Receipt, plan: Plan) -> Iterator[Claim]:
    """What was planned, and whether the ledger adds up."""
    by, rows, planned, records = "plan.json", receipt.rows, plan.data.rows, plan.data.records
    yield claim("plan", receipt.plan, plan.identity, by)
    if plan.version == __version__ or identity_of(plan) == plan.identity:
        yield claim("plan.identity", plan.identity, identity_of(plan), by)
    else:
        yield unchecked("plan.identity", plan.identity, f"Headway {plan.version} computed it")
    yield claim("steps.planned", receipt.steps.planned, plan.steps.num, by)
    yield claim("steps.first", receipt.steps.first, plan.steps.first, by)
    if plan.data.stream is None:  # of what is read on the way the plan says "about"
        yield claim("rows.read", rows.read, records.accepted + sum(records.rejected.values()), by)
        yield claim("rows.rejected", rows.rejected, records.rejected, by)
        yield claim("tokens.truncated", receipt.tokens.truncated, plan.data.truncated, by)
    yield claim(
        "rows.accepted", rows.accepted, rows.held_out + rows.planned + rows.not_planned, "the sum"
    )
    for name in ("accepted", "held_out", "planned", "not_planned"):
        yield claim(f"rows.{name}", getattr(rows, name), getattr(planned, name), by)
    yield claim("rows.applications_planned", rows.applications_planned, planned.applications, by)
    trusted = str(plan.model.trust_remote_code).lower()
    yield claim("trust_remote_code", receipt.environment["trust_remote_code"], trusted, by)


def steps_of(log: Sequence[LogEntry]) -> list[StepDone]:
    """The steps of a log that is one story, by number."""
    steps = (entry.event for entry in log if isinstance(entry.event, StepDone))
    return sorted(steps, key=lambda step: step.step)


def against_log(
    receipt: Receipt, log: Sequence[LogEntry], steps: Sequence[StepDone]
) -> Iterator[Claim]:
    """Steps, rows, tokens and losses, step by step as they were told."""
    by, tokens, learned = "events.jsonl", receipt.tokens, receipt.learning_facts
    inputs, computed = total(steps, "input_tokens"), total(steps, "computed_tokens")
    ends = [e.event for e in log if e.attempt == receipt.attempts and isinstance(e.event, Ended)]
    if ends:
        yield claim("outcome", receipt.outcome, ends[-1].outcome, by)
    else:  # killed between its receipt and its last line
        yield unchecked("outcome", receipt.outcome, NO_END)
    yield claim("attempts", receipt.attempts, max((e.attempt for e in log), default=0), by)
    yield claim("steps.applied", receipt.steps.applied, _unbroken(steps), by)
    last = steps[-1].global_step if steps else receipt.steps.first
    yield claim("steps.last", receipt.steps.last, last, by)
    yield claim("rows.applications", receipt.rows.applications, total(steps, "rows"), by)
    yield claim("tokens.trained", tokens.trained, total(steps, "trained_tokens"), by)
    yield claim("tokens.input", tokens.input, inputs, by)
    padding = max(0, computed - inputs)
    yield claim("tokens.padding", tokens.padding, padding, by)
    share = padding / computed if computed else 0.0
    yield claim("tokens.padding_share", tokens.padding_share, share, by)
    yield claim("tokens.shared", tokens.shared, max(0, inputs - computed), by)
    for of in ("loss", "grad_norm"):
        for name, step in (("first", steps[:1]), ("last", steps[-1:])):
            found = getattr(step[0], of) if step else None
            yield claim(f"{of}_{name}", getattr(learned, f"{of}_{name}"), found, by)


def total(steps: Sequence[StepDone], name: str) -> int:
    """The sum of a field over some steps."""
    return sum(getattr(step, name) for step in steps)


def _unbroken(steps: Sequence[StepDone]) -> int | str:
    """How many steps there are, from 1 on, each once; in words where that is not so."""
    for number, step in enumerate(steps, start=1):
        if step.step != number:
            return f"{plural(len(steps), 'step')}, and step {step.step} where {number} should be"
    return len(steps)


def against_order(receipt: Receipt, plan: Plan, steps: Sequence[StepDone]) -> Iterator[Claim]:
    """Which rows the steps that were taken should have had."""
    by, rows = "the order", receipt.rows
    order, done, applied = order_of(plan), len(steps), total(steps, "rows")
    due = order.rows_in(done)
    yield claim("rows.missing", rows.missing, max(0, due - applied), by)
    yield claim("rows.repeated", rows.repeated, max(0, applied - due), by)
    yield claim("rows.trained", rows.trained, min(applied, order.rows_per_epoch), by)
    planned = order.rows_in(plan.steps.num)
    yield claim("rows.applications_planned", rows.applications_planned, planned, by)
    row_sum = order.row_sum(done)
    yield claim("rows.row_sum", rows.row_sum, row_sum, by)
    yield claim("rows.row_sum_planned", rows.row_sum_planned, row_sum, by)
    whole = order.row_sum(plan.steps.num)
    yield claim("plan.row_sum", plan.data.rows.row_sum, whole, by)


# -- what was measured, and what was judged ---------------------------------------------------


def against_probes(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """The losses before and after, as they were told when they were measured."""
    by, told = "events.jsonl", {e.event.when: e.event for e in log if isinstance(e.event, Probed)}
    for name, loss in _losses(receipt):
        for when, claimed in (("before", loss.before), ("after", loss.after)):
            found = getattr(told[when], name) if when in told else "not in the log"
            yield claim(f"{name}.{when}", claimed, found, by)


def _losses(receipt: Receipt) -> list[tuple[str, Loss]]:
    learned = receipt.learning_facts
    both = (("train_probe", learned.train_probe), ("held_out", learned.held_out))
    return [(name, loss) for name, loss in both if loss is not None]


def against_judges(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """The judges' words once more, from the facts."""
    by, learned = "the facts", receipt.learning_facts
    learning = judge_learning(learned.train_probe, learned.held_out, receipt.steps.applied)
    yield claim("learning", receipt.learning, learning, by)
    why = _why(receipt, log)
    if why is None:
        yield unchecked("contract", receipt.contract, NO_END)
        yield unchecked("line", receipt.line, NO_END)
        return
    facts = Facts(
        outcome=receipt.outcome,
        why=why,
        planned_steps=receipt.steps.planned,
        applied_steps=receipt.steps.applied,
        rows=receipt.rows,
        tensors=learned.tensors,
        losses_finite=not learned.nonfinite_steps,
        checkpoint=receipt.checkpoint,
    )
    contract = judge_contract(facts)
    yield claim("contract", receipt.contract, contract, by)
    line = closing_line(facts, contract, learning, learned.train_probe, learned.held_out)
    yield claim("line", receipt.line, line, by)


def _why(receipt: Receipt, log: Sequence[LogEntry]) -> str | None:
    """What ended the run early, by its log; None where the log does not say."""
    if receipt.outcome == "finished":
        return ""
    events = [e.event for e in log if e.attempt == receipt.attempts]
    if receipt.outcome == "interrupted":
        return next((e.by for e in events if isinstance(e, StopAsked)), None)
    ends = [e.finding.what for e in events if isinstance(e, Ended) and e.finding]
    return ends[-1] if ends else None


def of_weights(receipt: Receipt) -> Iterator[Claim]:
    """What only the weights themselves can tell, and verify does not load them."""
    tensors = receipt.learning_facts.tensors
    if tensors is not None:
        why = "needs the weights that the job began with, loaded once more"
        yield unchecked("tensors.changed", tensors.changed, why)
        yield unchecked("tensors.relative_change", tensors.relative_change, why)
