"""Checks of a receipt against the plan, the log, the row order and its own facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headway.base.errors import Cause
from headway.base.events import Ended, LogEntry, Probed, StepDone
from headway.base.units import plural
from headway.base.version import __version__
from headway.data.batching.replay import replay_totals
from headway.data.order import MASK_64_BIT
from headway.runs.identity import identity_of
from headway.runs.log_facts import LogFacts
from headway.runs.order import order_of
from headway.runs.plan import Plan
from headway.runs.receipt import (
    MAX_NAMES,
    Facts,
    Judgment,
    Loss,
    Receipt,
    closing_line,
    judge_contract,
    judge_learning,
)

NO_END = "the log does not say how the run ended"


@dataclass(frozen=True)
class Claim:
    """One value of a receipt, and the same value recomputed from the run's folder."""

    name: str
    claimed: Any
    found: Any  # None if it could not be recomputed
    by: str  # what it was recomputed from, or why it could not be
    holds: bool | None  # None if it could not be recomputed


def checked(name: str, claimed: Any, found: Any, by: str) -> Claim:
    """A claim that was recomputed. It holds if both values are the same JSON."""
    claimed, found = _plain(claimed), _plain(found)
    return Claim(name, claimed, found, by, claimed == found)


def unchecked(name: str, claimed: Any, why: str) -> Claim:
    """A claim that could not be recomputed, and why."""
    return Claim(name, _plain(claimed), None, why, None)


def _plain(value: Any) -> Any:
    """The value as JSON has it: lists for tuples, null for NaN and infinity."""
    return msgspec.json.decode(msgspec.json.encode(value))


# -- plan, log and row order -----------------------------------------------------------------


def check_plan(receipt: Receipt, plan: Plan) -> Iterator[Claim]:
    """Planned numbers, and whether the ledger adds up."""
    by, rows, planned, records = "plan.json", receipt.rows, plan.data.rows, plan.data.records
    yield checked("plan", receipt.plan, plan.identity, by)
    if plan.version == __version__ or identity_of(plan) == plan.identity:
        yield checked("plan.identity", plan.identity, identity_of(plan), by)
    else:
        yield unchecked("plan.identity", plan.identity, f"computed by Headway {plan.version}")
    yield checked("steps.planned", receipt.steps.planned, plan.steps.num, by)
    yield checked("steps.first", receipt.steps.first, plan.steps.first, by)
    if plan.data.stream is None:  # a stream's plan only estimates these
        yield checked("rows.read", rows.read, records.accepted + sum(records.rejected.values()), by)
        yield checked("rows.rejected", rows.rejected, records.rejected, by)
        yield checked("tokens.truncated", receipt.tokens.truncated, plan.data.truncated, by)
    yield checked(
        "rows.accepted", rows.accepted, rows.held_out + rows.planned + rows.not_planned, "the sum"
    )
    estimated = ("accepted", "planned", "not_planned", "applications_planned")
    for name in ("held_out", *estimated):
        if plan.data.stream is None or name not in estimated:
            of_plan = {"applications_planned": "applications"}.get(name, name)
            yield checked(f"rows.{name}", getattr(rows, name), getattr(planned, of_plan), by)
    trusted = str(plan.model.trust_remote_code).lower()
    yield checked("trust_remote_code", receipt.environment["trust_remote_code"], trusted, by)


def check_workers(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """How many workers there were in the newest attempt, and the rows that they trained."""
    entries = [entry for entry in log if entry.attempt == receipt.attempts]
    steps = [entry.event for entry in entries if isinstance(entry.event, StepDone)]
    by, workers = "events.jsonl", receipt.workers
    if steps:
        yield checked("workers", len(workers) or 1, steps[-1].workers, by)
    if workers:
        rows = sum(worker.rows for worker in workers)
        logged = total(steps, "rows") + total(steps, "replayed")
        yield checked("workers.rows", rows, logged, by)


def steps_of(log: Sequence[LogEntry]) -> list[StepDone]:
    """The steps in a log, by number."""
    steps = (entry.event for entry in log if isinstance(entry.event, StepDone))
    return sorted(steps, key=lambda step: step.step)


def check_log(
    receipt: Receipt, log: Sequence[LogEntry], steps: Sequence[StepDone]
) -> Iterator[Claim]:
    """Steps, rows, tokens and losses, summed over the logged steps."""
    by, tokens, learned = "events.jsonl", receipt.tokens, receipt.learning_facts
    inputs, computed = total(steps, "input_tokens"), total(steps, "computed_tokens")
    ends = [e.event for e in log if e.attempt == receipt.attempts and isinstance(e.event, Ended)]
    if ends:
        yield checked("outcome", receipt.outcome, ends[-1].outcome, by)
    else:  # killed after the receipt, before the last line
        yield unchecked("outcome", receipt.outcome, NO_END)
    yield checked("attempts", receipt.attempts, max((e.attempt for e in log), default=0), by)
    yield checked("steps.applied", receipt.steps.applied, unbroken(steps), by)
    last = steps[-1].global_step if steps else receipt.steps.first
    yield checked("steps.last", receipt.steps.last, last, by)
    yield checked("rows.applications", receipt.rows.applications, total(steps, "rows"), by)
    yield checked("tokens.trained", tokens.trained, total(steps, "trained_tokens"), by)
    yield checked("tokens.input", tokens.input, inputs, by)
    padding = max(0, computed - inputs)
    yield checked("tokens.padding", tokens.padding, padding, by)
    share = padding / computed if computed else 0.0
    yield checked("tokens.padding_share", tokens.padding_share, share, by)
    yield checked("tokens.shared", tokens.shared, max(0, inputs - computed), by)
    for of in ("loss", "grad_norm"):
        for name, step in (("first", steps[:1]), ("last", steps[-1:])):
            found = getattr(step[0], of) if step else None
            yield checked(f"{of}_{name}", getattr(learned, f"{of}_{name}"), found, by)


def total(steps: Sequence[StepDone], name: str) -> int:
    """The sum of a field over some steps."""
    return sum(getattr(step, name) for step in steps)


def unbroken(steps: Sequence[StepDone]) -> int | str:
    """The number of steps if they count from 1 without a gap, else what is wrong with them."""
    for number, step in enumerate(steps, start=1):
        if step.step != number:
            return f"{plural(len(steps), 'step')}, step {step.step} in place of step {number}"
    return len(steps)


def check_order(receipt: Receipt, plan: Plan, steps: Sequence[StepDone]) -> Iterator[Claim]:
    """Rows that the finished steps trained, by the log; of stored data also by the row order."""
    rows, logged = receipt.rows, [step.row_sum for step in steps]
    sums = [row_sum for row_sum in logged if row_sum is not None]
    if len(sums) == len(logged):
        row_sum = sum(sums) & MASK_64_BIT
        yield checked("rows.row_sum", rows.row_sum, row_sum, "events.jsonl")
    if plan.data.stream:
        yield from _check_stream_rows(receipt, by_row=len(sums) == len(logged))
        return
    yield from _check_replay(receipt, plan, steps)
    by, order, num_steps = "the row order", order_of(plan), len(steps)
    row_sum = order.row_sum(num_steps)
    if rows.missing or rows.repeated:  # which ones, only the trainer saw
        yield unchecked("rows.missing", rows.missing, "the log has sums of rows, not the rows")
        yield unchecked("rows.repeated", rows.repeated, "the log has sums of rows, not the rows")
    else:
        due, applied = order.rows_in(num_steps), total(steps, "rows")
        yield checked("rows.missing", rows.missing, max(0, due - applied), by)
        yield checked("rows.repeated", rows.repeated, max(0, applied - due), by)
        yield checked("rows.trained", rows.trained, min(applied, order.rows_per_epoch), by)
        yield checked("rows.row_sum", rows.row_sum, row_sum, by)
    planned = order.rows_in(plan.steps.num)
    yield checked("rows.applications_planned", rows.applications_planned, planned, by)
    yield checked("rows.row_sum_planned", rows.row_sum_planned, row_sum, by)
    whole = order.row_sum(plan.steps.num)
    yield checked("plan.row_sum", plan.data.rows.row_sum, whole, by)


def _check_replay(receipt: Receipt, plan: Plan, steps: Sequence[StepDone]) -> Iterator[Claim]:
    """Rows of earlier runs that the finished steps replayed; nothing if none were due."""
    rows, replay = receipt.rows, plan.replay
    if not (replay or rows.replayed):
        return
    row_sum = total(steps, "replay_sum") & MASK_64_BIT
    yield checked("rows.replayed", rows.replayed, total(steps, "replayed"), "events.jsonl")
    yield checked("rows.replay_sum", rows.replay_sum, row_sum, "events.jsonl")
    due = replay_totals(replay, len(steps)) if replay else (0, 0)
    by = "the plan's draw"
    yield checked("rows.replayed", rows.replayed, due[0], by)
    yield checked("rows.replay_sum_planned", rows.replay_sum_planned, due[1], by)
    if replay:
        whole = replay_totals(replay, plan.steps.num)
        yield checked("plan.replay", [replay.num_rows, replay.row_sum], list(whole), by)


def _check_stream_rows(receipt: Receipt, *, by_row: bool) -> Iterator[Claim]:
    """Which rows a stream has is known when it is read; what was due is in the checkpoint."""
    rows = receipt.rows
    if not by_row:
        why = "an older version numbered the rows of a stream"
        yield unchecked("rows.row_sum", rows.row_sum, why)
        return
    why = "the rows of a stream are not stored"
    if rows.missing or rows.repeated:
        yield unchecked("rows.missing", rows.missing, why)
        yield unchecked("rows.repeated", rows.repeated, why)
    else:
        yield checked("rows.row_sum", rows.row_sum, rows.row_sum_planned, "the receipt's facts")


def check_stalls(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """The stalls that the receipt names are those of the log; nothing if there were none."""
    found = LogFacts.of(log, receipt.attempts).stalls
    if found or receipt.stalls:
        yield checked("stalls", receipt.stalls, found, "events.jsonl")


# -- measurements and verdicts ----------------------------------------------------------------


def check_probes(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """Losses before and after training, as the log recorded them."""
    by = "events.jsonl"
    probed = {e.event.when: e.event for e in log if isinstance(e.event, Probed)}
    for name, loss in _losses(receipt):
        for when, claimed in (("before", loss.before), ("after", loss.after)):
            found = getattr(probed[when], name) if when in probed else "not in the log"
            yield checked(f"{name}.{when}", claimed, found, by)


def _losses(receipt: Receipt) -> list[tuple[str, Loss]]:
    learned = receipt.learning_facts
    both = (("train_probe", learned.train_probe), ("held_out", learned.held_out))
    return [(name, loss) for name, loss in both if loss is not None]


@dataclass(frozen=True)
class _Ending:
    """How the log says that an attempt ended."""

    why: str  # what ended it early, "" if nothing did
    cause: Cause | None  # of a failure; None where the log has none
    line: str | None  # the closing line; None where the log has none


def check_verdicts(receipt: Receipt, log: Sequence[LogEntry]) -> Iterator[Claim]:
    """Contract and learning, judged again from the facts.

    Another version may have worded its reasons differently. Of its receipt the verdicts are judged
    again, and the closing line is compared with the log's.
    """
    by, learned = "the receipt's facts", receipt.learning_facts
    writer = receipt.environment.get("headway", "unknown")
    is_same_version = writer == __version__
    learning = judge_learning(learned.train_probe, learned.held_out, receipt.steps.applied)
    yield _verdict("learning", receipt.learning, learning, is_same_version=is_same_version)
    ending = _ending(receipt, log)
    if ending is None:
        for name in ("contract", "line"):
            yield unchecked(name, getattr(receipt, name), NO_END)
        yield unchecked("nonfinite_steps", learned.nonfinite_steps, NO_END)
        return
    yield _check_nonfinite_steps(receipt, ending)
    facts = Facts(
        outcome=receipt.outcome,
        why=ending.why,
        planned_steps=receipt.steps.planned,
        applied_steps=receipt.steps.applied,
        rows=receipt.rows,
        tensors=learned.tensors,
        losses_finite=not learned.nonfinite_steps,
        checkpoint=receipt.checkpoint,
    )
    contract = judge_contract(facts)
    yield _verdict("contract", receipt.contract, contract, is_same_version=is_same_version)
    if is_same_version:
        line = closing_line(facts, contract, learning, learned.train_probe, learned.held_out)
        yield checked("line", receipt.line, line, by)
    elif ending.line is not None:
        yield checked("line", receipt.line, ending.line, "events.jsonl")
    else:
        yield unchecked("line", receipt.line, f"written by Headway {writer}")


def _verdict(name: str, claimed: Judgment, found: Judgment, *, is_same_version: bool) -> Claim:
    """Verdict and reasons; of another version's receipt the verdict only."""
    if is_same_version:
        return checked(name, claimed, found, "the receipt's facts")
    return checked(name, claimed.verdict, found.verdict, "the receipt's facts")


def _check_nonfinite_steps(receipt: Receipt, ending: _Ending) -> Claim:
    """Steps that were not applied because loss or gradient was not finite."""
    name, claimed = "nonfinite_steps", receipt.learning_facts.nonfinite_steps
    if receipt.outcome == "failed" and ending.cause is None:
        return unchecked(name, claimed, "the log gives no cause of the failure")
    return checked(name, claimed, int(ending.cause is Cause.NOT_FINITE), "events.jsonl")


def _ending(receipt: Receipt, log: Sequence[LogEntry]) -> _Ending | None:
    """How the receipt's attempt ended; None if the log does not say why it ended early."""
    events = [e.event for e in log if e.attempt == receipt.attempts]
    ends = [event for event in events if isinstance(event, Ended)]
    line = ends[-1].line if ends else None
    if receipt.outcome == "finished":
        return _Ending("", None, line)
    if receipt.outcome == "interrupted":
        by = LogFacts.of(log, receipt.attempts).asked_by
        return _Ending(by, None, line) if by else None
    findings = [end.finding for end in ends if end.finding]
    return _Ending(findings[-1].what, findings[-1].cause, line) if findings else None


def weight_claims(receipt: Receipt) -> Iterator[Claim]:
    """What the weights showed when the run ended; `verify` does not load them."""
    tensors = receipt.learning_facts.tensors
    if tensors is not None:
        if tensors.saved is not None and len(tensors.differing) < MAX_NAMES:
            saved = tensors.trainable - len(tensors.differing)
            yield checked("tensors.saved", tensors.saved, saved, "the receipt's facts")
        why = "needs the weights from before the first step"
        yield unchecked("tensors.changed", tensors.changed, why)
        yield unchecked("tensors.relative_change", tensors.relative_change, why)
