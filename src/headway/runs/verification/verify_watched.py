"""Verification of a watched receipt: what the log and the checkpoint can show again.

A trainer of somebody else keeps no ledger of rows and no weights from before the first step, so
more stays unchecked than of a run of Headway. It is listed with its reason.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headway.base.events import Ended, LogEntry, StepDone, read_events
from headway.base.files import hash_file
from headway.base.pulse import Phase, Pulse
from headway.model.safetensors_index import weight_files
from headway.runs.folder import RunFolder
from headway.runs.verification.verify_checks import (
    NO_END,
    Claim,
    checked,
    steps_of,
    total,
    unbroken,
    unchecked,
)
from headway.runs.watched.watched_receipt import (
    SeenCheckpoint,
    WatchedReceipt,
    change_of,
    judge_seen_contract,
    judge_seen_learning,
    load_watched_receipt,
    seen_line,
)
from headway.runs.watched.watched_run import FILE, WatchedRun, load_watched

_BY = "events.jsonl"


def watched_claims(folder: RunFolder, pulse: Pulse) -> tuple[WatchedReceipt, tuple[Claim, ...]]:
    """The receipt of a watched run, and each of its claims, recomputed. Writes nothing.

    Args:
        folder: the run.
        pulse: enters a phase for each part.

    Raises:
        OSError: a file is missing.
        msgspec.MsgspecError: one cannot be read.
        UsageError: a newer Headway wrote it.
    """
    receipt, run = load_watched_receipt(folder.path), load_watched(folder.path)
    pulse.enter(Phase.READING_LOG)
    log = read_events(folder.events)
    steps = steps_of(log)
    pulse.enter(Phase.RECOMPUTING)
    claims = [
        *_check_steps(receipt, run, log, steps),
        *_check_counts(receipt, steps),
        *_check_losses(receipt, steps),
        *_check_weights(receipt),
        *_check_verdicts(receipt),
    ]
    if receipt.checkpoint is not None:
        pulse.enter(Phase.VERIFYING_CHECKPOINT)
        claims += _check_checkpoint(receipt.checkpoint)
    return receipt, tuple(claims)


def _check_steps(
    receipt: WatchedReceipt, run: WatchedRun, log: Sequence[LogEntry], steps: Sequence[StepDone]
) -> Iterator[Claim]:
    claimed = receipt.steps
    yield checked("steps.planned", claimed.planned, run.steps.num, FILE)
    yield checked("steps.first", claimed.first, run.steps.first, FILE)
    yield checked("steps.applied", claimed.applied, unbroken(steps), _BY)
    if not receipt.learning_facts.skipped_steps:
        last = steps[-1].global_step if steps else claimed.first
        yield checked("steps.last", claimed.last, last, _BY)
    ends = [entry.event for entry in log if isinstance(entry.event, Ended)]
    if not ends:
        yield unchecked("outcome", receipt.outcome, NO_END)
        return
    yield checked("outcome", receipt.outcome, ends[-1].outcome, _BY)
    yield checked("line", receipt.line, ends[-1].line, _BY)


def _check_counts(receipt: WatchedReceipt, steps: Sequence[StepDone]) -> Iterator[Claim]:
    """Rows and tokens, summed over the logged steps; what was not counted is claimed by nobody."""
    rows, tokens = receipt.rows, receipt.tokens
    sums: list[tuple[str, int | None, str]] = [
        ("rows.applications", rows.applications, "rows"),
        ("tokens.input", tokens.input, "input_tokens"),
        ("tokens.trained", tokens.trained, "trained_tokens"),
    ]
    for name, value, logged in sums:
        if value is not None:
            yield checked(name, value, total(steps, logged), _BY)
    if tokens.padding is not None and tokens.input is not None:
        padding = total(steps, "computed_tokens") - total(steps, "input_tokens")
        yield checked("tokens.padding", tokens.padding, padding, _BY)
    if rows.distinct is not None:
        yield unchecked("rows.distinct", rows.distinct, "the log has no contents of rows")


def _check_losses(receipt: WatchedReceipt, steps: Sequence[StepDone]) -> Iterator[Claim]:
    learned = receipt.learning_facts
    if learned.loss_first is not None and steps:
        yield checked("loss_first", learned.loss_first, steps[0].loss, _BY)
        yield checked("loss_last", learned.loss_last, steps[-1].loss, _BY)
        loss, averaged = change_of([s.loss for s in steps], [s.rows for s in steps])
        yield checked("loss", learned.loss, loss, _BY)
        yield checked("averaged", learned.averaged, averaged, _BY)
    if steps:
        rate = max(step.learning_rate for step in steps)
        yield checked("rate_max", learned.rate_max, rate, _BY)


def _check_weights(receipt: WatchedReceipt) -> Iterator[Claim]:
    learned = receipt.learning_facts
    if learned.tensors is not None:
        why = "needs the weights from before the first step"
        yield unchecked("tensors.changed", learned.tensors.changed, why)
    if learned.nonfinite_steps:
        why = "the log has applied steps only"
        yield unchecked("nonfinite_steps", learned.nonfinite_steps, why)


def _check_verdicts(receipt: WatchedReceipt) -> Iterator[Claim]:
    """Both judgments again, and the line, from the facts in the receipt."""
    by = "the receipt's facts"
    contract = judge_seen_contract(receipt.facts)
    learning = judge_seen_learning(receipt.learning_facts, receipt.steps.applied)
    pairs: list[tuple[str, Any, Any]] = [
        ("contract", receipt.contract, contract),
        ("learning", receipt.learning, learning),
        ("line", receipt.line, seen_line(receipt.facts, contract, learning)),
    ]
    for name, claimed, found in pairs:
        yield checked(name, claimed, found, by)


def _check_checkpoint(claimed: SeenCheckpoint) -> Iterator[Claim]:
    folder = Path(claimed.folder)
    by = folder.name
    if not folder.is_dir():
        # The trainer deletes old ones, and people move them: that is not a false claim.
        yield unchecked("checkpoint", by, f"{folder} is no longer there")
        return
    if claimed.problem:
        yield unchecked("checkpoint.problem", claimed.problem, "weights are not loaded")
        return
    try:
        files = weight_files(folder)
        hashes = {file.name: hash_file(file).sha256 for file in files}
        num_bytes = sum(file.stat().st_size for file in files)
    except (OSError, ValueError) as error:
        yield checked("checkpoint", "readable", f"cannot be read: {error}", by)
        return
    yield checked("checkpoint.bytes", claimed.bytes, num_bytes, by)
    yield checked("checkpoint.sha256", claimed.sha256, hashes, by)
