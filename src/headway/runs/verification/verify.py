"""Receipt verification: recompute every claim of a receipt from the run's folder.

Steps, rows and tokens are summed again from the log, the row sum from the plan's row order, hashes
from the files, verdicts from the facts. If the tokenized data is still in the cache, its tokens are
counted too. A claim that cannot be recomputed is listed, never left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headway.base.errors import BrokenContract, Cause, DataRefused, MachineError, Remedy
from headway.base.events import StepDone, read_events
from headway.base.files import MANIFEST, hash_file, verify_folder
from headway.base.lock import is_held
from headway.base.pulse import Phase, Pulse
from headway.base.units import plural
from headway.config.optimizers import FIRST_MOMENTS
from headway.data.batching.replay import replayed_rows
from headway.data.batching.rows import Segment, rows_of
from headway.data.formats.records import RejectReason
from headway.data.survey.result import Survey
from headway.data.survey.store import Store
from headway.model.safetensors_index import read_header
from headway.runs.archive.replayed import with_replayed
from headway.runs.checkpoint_state import CheckpointState, RowsDue, read_state
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.order import order_of
from headway.runs.plan import DataPlan, Plan
from headway.runs.receipt import Receipt, load_receipt
from headway.runs.settled import load_settled
from headway.runs.verification.verify_checks import (
    Claim,
    check_log,
    check_order,
    check_plan,
    check_probes,
    check_stalls,
    check_verdicts,
    check_workers,
    checked,
    steps_of,
    total,
    unchecked,
    weight_claims,
)
from headway.runs.verification.verify_watched import watched_claims
from headway.runs.watched.watched_receipt import WatchedReceipt
from headway.runs.watched.watched_run import is_watched

SCHEMA = "headway.verification/1"


@dataclass(frozen=True)
class Verification:
    """All claims of a receipt, checked."""

    schema: str
    run: str
    folder: str
    holds: bool  # no claim differs
    line: str  # the receipt's closing line
    claims: tuple[Claim, ...]

    @property
    def differences(self) -> tuple[Claim, ...]:
        """Claims that differ from the folder."""
        return tuple(one for one in self.claims if one.holds is False)

    @property
    def unchecked(self) -> tuple[Claim, ...]:
        """Claims that could not be recomputed."""
        return tuple(one for one in self.claims if one.holds is None)


def verify(folder: RunFolder, pulse: Pulse) -> Verification:
    """Recompute every claim of a run's receipt. Writes nothing.

    Args:
        folder: the run.
        pulse: enters a phase for each part.

    Raises:
        BrokenContract: receipt or plan is missing or cannot be read.
        UsageError: a newer Headway wrote them.
    """
    if is_watched(folder.path):
        return _verify_watched(folder, pulse)
    receipt, plan = _load_receipt(folder), folder.plan()
    if plan is None:
        raise _unreadable(folder, "plan.json")
    pulse.enter(Phase.READING_LOG)
    log = read_events(folder.events)
    steps = steps_of(log)
    pulse.enter(Phase.VERIFYING_CHECKPOINT)
    checkpoint = list(_check_checkpoint(folder, receipt, plan, steps))
    pulse.enter(Phase.RECOMPUTING)
    claims = (
        *check_plan(receipt, plan),
        *check_log(receipt, log, steps),
        *check_workers(receipt, log),
        *_check_reduction(folder, receipt, plan),
        *check_order(receipt, plan, steps),
        *_check_rejected(folder, receipt, plan),
        *_check_data(receipt, _with_data_located(folder, plan), pulse),
        *checkpoint,
        *check_probes(receipt, log),
        *check_stalls(receipt, log),
        *check_verdicts(receipt, log),
        *weight_claims(receipt),
    )
    return _verification(folder, receipt, claims)


def _verify_watched(folder: RunFolder, pulse: Pulse) -> Verification:
    """The same for a run that Headway only watched, as far as its folder shows."""
    try:
        receipt, claims = watched_claims(folder, pulse)
    except FileNotFoundError:
        raise _no_receipt(folder) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise _unreadable(folder, "receipt.json") from error
    return _verification(folder, receipt, claims)


def _verification(
    folder: RunFolder, receipt: Receipt | WatchedReceipt, claims: tuple[Claim, ...]
) -> Verification:
    return Verification(
        schema=SCHEMA,
        run=receipt.run,
        folder=str(folder.path),
        holds=all(one.holds is not False for one in claims),
        line=receipt.line,
        claims=claims,
    )


def _check_reduction(folder: RunFolder, receipt: Receipt, plan: Plan) -> Iterator[Claim]:
    """How gradients of several workers were added in the newest attempt."""
    try:
        found = load_settled(folder.path, plan).reduction if receipt.workers else ""
    except MachineError as error:
        yield unchecked("reduction", receipt.reduction, error.what)
        return
    yield checked("reduction", receipt.reduction, found, "settled.json")


def _check_rejected(folder: RunFolder, receipt: Receipt, plan: Plan) -> Iterator[Claim]:
    """Records in rejected.jsonl, counted by reason.

    Rows whose answer was cut off are not in that file: their records were read without an error.
    """
    if plan.data.stream:
        why = "streamed data: the checkpoint's count is compared instead"
        yield unchecked("rows.rejected", receipt.rows.rejected, why)
        return
    counted = {k: n for k, n in receipt.rows.rejected.items() if k != RejectReason.NO_ANSWER_LEFT}
    path = folder.path / "rejected.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        found = Counter(msgspec.json.decode(line)["reason"] for line in lines)
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        yield checked("rows.rejected", counted, f"cannot be read: {error}", path.name)
        return
    yield checked("rows.rejected", counted, dict(found), path.name)


# -- data -------------------------------------------------------------------------------------


def _with_data_located(folder: RunFolder, plan: Plan) -> Plan:
    try:
        return load_settled(folder.path, plan).locate_data(plan)
    except MachineError:  # settled.json cannot be read
        return plan


def _check_data(receipt: Receipt, plan: Plan, pulse: Pulse) -> Iterator[Claim]:
    """Tokens of the trained rows, counted in the tokenized data."""
    claimed = {"tokens.input": receipt.tokens.input, "tokens.trained": receipt.tokens.trained}
    if plan.data.stream:
        for name, value in claimed.items():
            yield unchecked(name, value, "streamed data is not stored")
        return
    try:
        store = Store(Path(plan.data.store))
    except (OSError, EOFError, ValueError, msgspec.MsgspecError):
        store = None
    if store is None or not _is_same_data(store.survey, plan.data):
        for name, value in claimed.items():
            yield unchecked(name, value, "the tokenized data is no longer in the cache")
        return
    try:
        inputs, trained = _count_tokens(store, plan, receipt.steps.applied, pulse)
    except DataRefused as refusal:
        for name, value in claimed.items():
            yield unchecked(name, value, refusal.what)
        return
    yield checked("tokens.input", claimed["tokens.input"], inputs, "the tokenized data")
    yield checked("tokens.trained", claimed["tokens.trained"], trained, "the tokenized data")


def _is_same_data(survey: Survey, data: DataPlan) -> bool:
    is_same = survey.fingerprint == data.fingerprint
    return is_same and data.examples in ("", survey.examples)  # plans of 0.1 have none


def _count_tokens(store: Store, plan: Plan, num_steps: int, pulse: Pulse) -> tuple[int, int]:
    """Input and trained tokens of the rows in the first `num_steps` steps."""
    rows, order = rows_of(store, plan.data.max_length), order_of(plan)
    inputs_R = rows.lengths()
    trained_R = inputs_R
    if store.trained is not None:
        learned = np.concatenate([[0], np.cumsum(store.trained, dtype=np.int64)])
        pieces = [rows.pieces(row) for row in range(rows.num_rows)]
        trained_R = np.array(
            [sum(int(learned[p.end + 1] - learned[p.begin + 1]) for p in ps) for ps in pieces]
        )
    inputs = trained = 0
    for step in range(1, num_steps + 1):
        numbers = order.rows(step)[1]
        inputs += int(inputs_R[numbers].sum())
        trained += int(trained_R[numbers].sum())
        if step % 1000 == 0:
            pulse.beat()
    if plan.replay:
        others, _ = with_replayed(plan.replay, rows, order, plan.data.max_length)
        for step in range(1, num_steps + 1):
            numbers = replayed_rows(plan.replay, step).tolist()
            segments = [segment for number in numbers for segment in others.segments(number)]
            inputs += sum(map(len, segments))
            trained += sum(map(_num_trained, segments))
    return inputs, trained


def _num_trained(segment: Segment) -> int:
    return len(segment) if segment.trained is None else int(segment.trained.sum())


# -- checkpoint -------------------------------------------------------------------------------


def _check_checkpoint(
    folder: RunFolder, receipt: Receipt, plan: Plan, steps: Sequence[StepDone]
) -> Iterator[Claim]:
    claimed = receipt.checkpoint
    if claimed is None:
        return
    by, path = claimed.name, folder.path / claimed.name
    if not re.fullmatch(r"checkpoint-\d+", claimed.name) or not path.is_dir():
        yield checked("checkpoint", claimed.name, "missing", "the folder")
        return
    problems = verify_folder(path)
    yield checked("checkpoint", "intact", str((problems or ["intact"])[0]), by)
    sha256 = hash_file(path / MANIFEST).sha256 if (path / MANIFEST).is_file() else "missing"
    yield checked("checkpoint.manifest_sha256", claimed.manifest_sha256, sha256, by)
    num_bytes = Checkpoint(path, receipt.steps.last).num_bytes
    yield checked("checkpoint.bytes", claimed.bytes, num_bytes, by)
    link = folder.model.readlink().name if folder.model.is_symlink() else "missing"
    yield checked("model", claimed.name, link, "the link")
    try:
        state = read_state(path)
    except (OSError, msgspec.MsgspecError) as error:
        yield checked("checkpoint.state", "headway.json", f"cannot be read: {error}", by)
        return
    yield from _check_state(receipt, plan, state, steps, f"{by}/headway.json")
    yield from _check_moments(receipt, Checkpoint(path, receipt.steps.last))


def _check_state(
    receipt: Receipt, plan: Plan, state: CheckpointState, steps: Sequence[StepDone], by: str
) -> Iterator[Claim]:
    """The totals in headway.json, compared with plan, log and receipt."""
    yield checked("checkpoint.plan", receipt.plan, state.plan, by)
    yield checked("checkpoint.data", plan.data.fingerprint, state.data, by)
    yield checked("checkpoint.tokenizer", plan.data.tokenizer, state.tokenizer, by)
    if receipt.outcome != "failed":  # a failed run may have taken steps after its last save
        yield checked("checkpoint.step", receipt.steps.applied, state.job_step, by)
        yield checked("checkpoint.row_sum", receipt.rows.row_sum, state.row_sum, by)
        yield checked("checkpoint.global_step", receipt.steps.last, state.global_step, by)
        if state.due:
            yield from _check_due(receipt, state.due, by)
        if state.read_cursor:
            yield checked("rows.read", receipt.rows.read, state.read_cursor.read, by)
            yield checked("rows.rejected", receipt.rows.rejected, state.read_cursor.rejected, by)
            yield checked(
                "tokens.truncated", receipt.tokens.truncated, state.read_cursor.truncated, by
            )
    saved = steps[: state.job_step]
    totals = {
        "applications": total(saved, "rows"),
        "input_tokens": total(saved, "input_tokens"),
        "trained_tokens": total(saved, "trained_tokens"),
        "computed_tokens": total(saved, "computed_tokens"),
    }
    for name, value in totals.items():
        yield checked(f"checkpoint.{name}", getattr(state, name), value, "events.jsonl")
    if plan.data.stream is None:
        row_sum = order_of(plan).row_sum(state.job_step)
        yield checked("checkpoint.row_sum", state.row_sum, row_sum, "the row order")


def _check_due(receipt: Receipt, due: RowsDue, by: str) -> Iterator[Claim]:
    """What a stream's steps were to train, as the checkpoint has it."""
    rows = receipt.rows
    yield checked("rows.row_sum_planned", rows.row_sum_planned, due.row_sum, by)
    if not (rows.missing or rows.repeated):
        yield checked("rows.trained", rows.trained, due.distinct, by)
    if receipt.outcome == "finished":  # of an interrupted run, what is ahead is estimated
        yield checked("rows.applications_planned", rows.applications_planned, due.rows, by)
        yield checked("rows.planned", rows.planned, due.distinct, by)


def _check_moments(receipt: Receipt, checkpoint: Checkpoint) -> Iterator[Claim]:
    """Every trainable tensor has moments of its optimizer."""
    tensors = receipt.learning_facts.tensors
    if tensors is None:
        return
    files = checkpoint.moment_files
    by = str(files[0].relative_to(checkpoint.path.parent))
    by += f" and {plural(len(files) - 1, 'other file')}" if files[1:] else ""
    try:
        names = {name for file in files for name in read_header(file)}
    except (OSError, ValueError) as error:
        yield checked("tensors.trainable", tensors.trainable, f"cannot be read: {error}", by)
        return
    moments = sum(name.partition("/")[0] in FIRST_MOMENTS for name in names)
    yield checked("tensors.trainable", tensors.trainable, moments, by)


# -- refusals ---------------------------------------------------------------------------------


def _load_receipt(folder: RunFolder) -> Receipt:
    try:
        return load_receipt(folder.path)
    except FileNotFoundError:
        raise _no_receipt(folder) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise _unreadable(folder, "receipt.json") from error


def _no_receipt(folder: RunFolder) -> BrokenContract:
    name = folder.path.name
    steps = len(steps_of(read_events(folder.events)))
    newest = folder.checkpoints()[-1:]
    saved = f"{newest[0].path.name}" if newest else "no checkpoint"
    if is_held(folder.lock):
        return BrokenContract(
            f"{name} has no receipt yet: it is still training",
            cause=Cause.RUN_ACTIVE,
            have=f"{plural(steps, 'step')} in its log, {saved}",
            need="a run that has ended",
            remedies=(Remedy(f"headway status {folder.path}", "shows what it is doing"),),
        )
    if is_watched(folder.path):
        return BrokenContract(
            f"{name} has no receipt: its program was killed",
            cause=Cause.NO_RECEIPT,
            have=f"{plural(steps, 'step')} in its log",
            need="receipt.json, which is written when training ends",
            remedies=(Remedy(f"headway logs {folder.path}", "what it did until then"),),
        )
    return BrokenContract(
        f"{name} has no receipt: it never finished",
        cause=Cause.NO_RECEIPT,
        have=f"{plural(steps, 'step')} in its log, {saved}",
        need="receipt.json, which a run writes when it ends",
        remedies=(Remedy("run its command again", "resumes it and writes the receipt"),),
    )


def _unreadable(folder: RunFolder, name: str) -> BrokenContract:
    return BrokenContract(
        f"{folder.path / name} cannot be read",
        cause=Cause.RUN_UNREADABLE,
        have="a missing or damaged file",
        need=f"the {name} of this run",
        remedies=(Remedy(f"headway backup --list {folder.path.name}", "lists backups to restore"),),
    )
