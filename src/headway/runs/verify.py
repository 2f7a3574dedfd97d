"""A receipt's claims, each computed again from the run's folder alone.

The receipt is not believed: steps, rows and tokens are summed again from the log, the row sum from
the plan's order, hashes from the bytes, verdicts by the judges. Where the tokenised data is still
in the cache its tokens are counted too. What cannot be computed again is named, never left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headway.base.errors import BrokenContract, Remedy
from headway.base.events import StepDone, read_events
from headway.base.files import MANIFEST, hash_file, verify_folder
from headway.base.lock import is_held
from headway.base.pulse import Phase, Pulse
from headway.base.units import plural
from headway.data.batching.rows import VANISHED, rows_of
from headway.data.survey.store import Store
from headway.model.safetensors_index import read_header
from headway.runs.checkpoint_state import CheckpointState, read_state
from headway.runs.folder import RunFolder
from headway.runs.order import order_of
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, load_receipt
from headway.runs.verify_checks import (
    Claim,
    against_judges,
    against_log,
    against_order,
    against_plan,
    against_probes,
    claim,
    of_weights,
    steps_of,
    total,
    unchecked,
)

SCHEMA = "headway.verification/1"


@dataclass(frozen=True)
class Verification:
    """All claims of a receipt."""

    schema: str
    run: str
    folder: str
    holds: bool  # no claim differs
    line: str  # the receipt's closing line
    claims: tuple[Claim, ...]

    @property
    def differences(self) -> tuple[Claim, ...]:
        """What the receipt says and the folder does not."""
        return tuple(one for one in self.claims if one.holds is False)

    @property
    def open(self) -> tuple[Claim, ...]:
        """What could not be computed again."""
        return tuple(one for one in self.claims if one.holds is None)


def verify(folder: RunFolder, pulse: Pulse) -> Verification:
    """Compute every claim of a run's receipt again; nothing is written.

    Args:
        folder: of the run.
        pulse: told what is being looked at.

    Raises:
        BrokenContract: there is no receipt, or no plan, that can be read.
        UsageError: a newer Headway wrote them.
    """
    receipt, plan = _receipt(folder), folder.plan()
    if plan is None:
        raise _unreadable(folder, "plan.json")
    pulse.enter(Phase.READING_LOG)
    log = read_events(folder.events)
    steps = steps_of(log)
    pulse.enter(Phase.VERIFYING_CHECKPOINT)
    checkpoint = list(_checkpoint(folder, receipt, plan, steps))
    pulse.enter(Phase.RECOMPUTING)
    claims = (
        *against_plan(receipt, plan),
        *against_log(receipt, log, steps),
        *against_order(receipt, plan, steps),
        *_rejected(folder, receipt, plan),
        *_data(receipt, plan, pulse),
        *checkpoint,
        *against_probes(receipt, log),
        *against_judges(receipt, log),
        *of_weights(receipt),
    )
    return Verification(
        schema=SCHEMA,
        run=receipt.run,
        folder=str(folder.path),
        holds=all(one.holds is not False for one in claims),
        line=receipt.line,
        claims=claims,
    )


def _rejected(folder: RunFolder, receipt: Receipt, plan: Plan) -> Iterator[Claim]:
    """Rows that were refused, counted again; those that lost their answer were read well."""
    if plan.data.stream:
        why = "the data was read on the way: the checkpoint's own count is compared"
        yield unchecked("rows.rejected", receipt.rows.rejected, why)
        return
    counted = {k: n for k, n in receipt.rows.rejected.items() if k != VANISHED}
    path = folder.path / "rejected.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        found = Counter(msgspec.json.decode(line)["reason"] for line in lines)
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        yield claim("rows.rejected", counted, f"cannot be read: {error}", path.name)
        return
    yield claim("rows.rejected", counted, dict(found), path.name)


# -- against the data ------------------------------------------------------------------------


def _data(receipt: Receipt, plan: Plan, pulse: Pulse) -> Iterator[Claim]:
    """Tokens counted in the tokenised data, row by row as the order takes them."""
    claimed = {"tokens.input": receipt.tokens.input, "tokens.trained": receipt.tokens.trained}
    if plan.data.stream:
        for name, value in claimed.items():
            yield unchecked(name, value, "the data was read on the way, and not kept")
        return
    try:
        store = Store(Path(plan.data.store))
    except (OSError, EOFError, ValueError, msgspec.MsgspecError):
        store = None
    if store is None or store.survey.fingerprint != plan.data.fingerprint:
        for name, value in claimed.items():
            yield unchecked(name, value, "the tokenised data is no longer in the cache")
        return
    inputs, trained = _tokens(store, plan, receipt.steps.applied, pulse)
    yield claim("tokens.input", claimed["tokens.input"], inputs, "the tokenised data")
    yield claim("tokens.trained", claimed["tokens.trained"], trained, "the tokenised data")


def _tokens(store: Store, plan: Plan, num_steps: int, pulse: Pulse) -> tuple[int, int]:
    """Input and trained tokens of the first steps' rows."""
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
    return inputs, trained


# -- against the checkpoint ------------------------------------------------------------------


def _checkpoint(
    folder: RunFolder, receipt: Receipt, plan: Plan, steps: Sequence[StepDone]
) -> Iterator[Claim]:
    claimed = receipt.checkpoint
    if claimed is None:
        return
    by, path = claimed.name, folder.path / claimed.name
    if not re.fullmatch(r"checkpoint-\d+", claimed.name) or not path.is_dir():
        yield claim("checkpoint", claimed.name, "not there", "the folder")
        return
    problems = verify_folder(path)
    yield claim("checkpoint", "as it was written", str((problems or ["as it was written"])[0]), by)
    sha256 = hash_file(path / MANIFEST).sha256 if (path / MANIFEST).is_file() else "missing"
    yield claim("checkpoint.manifest_sha256", claimed.manifest_sha256, sha256, by)
    num_bytes = sum(file.stat().st_size for file in path.iterdir())
    yield claim("checkpoint.bytes", claimed.bytes, num_bytes, by)
    link = folder.model.readlink().name if folder.model.is_symlink() else "missing"
    yield claim("model", claimed.name, link, "the link")
    try:
        state = read_state(path)
    except (OSError, msgspec.MsgspecError) as error:
        yield claim("checkpoint.state", "headway.json", f"cannot be read: {error}", by)
        return
    yield from _state(receipt, plan, state, steps, f"{by}/headway.json")
    yield from _trainable(receipt, path)


def _state(
    receipt: Receipt, plan: Plan, state: CheckpointState, steps: Sequence[StepDone], by: str
) -> Iterator[Claim]:
    """What the trainer had added up when it saved, beside the plan, the log and the receipt."""
    yield claim("checkpoint.plan", receipt.plan, state.plan, by)
    yield claim("checkpoint.data", plan.data.fingerprint, state.data, by)
    yield claim("checkpoint.tokenizer", plan.data.tokenizer, state.tokenizer, by)
    if receipt.outcome != "failed":  # one that failed may have gone on after its last save
        yield claim("checkpoint.step", receipt.steps.applied, state.job_step, by)
        yield claim("checkpoint.row_sum", receipt.rows.row_sum, state.row_sum, by)
        yield claim("checkpoint.global_step", receipt.steps.last, state.global_step, by)
        if state.read_cursor:
            yield claim("rows.read", receipt.rows.read, state.read_cursor.read, by)
            yield claim("rows.rejected", receipt.rows.rejected, state.read_cursor.rejected, by)
            yield claim(
                "tokens.truncated", receipt.tokens.truncated, state.read_cursor.truncated, by
            )
    saved = steps[: state.job_step]
    told = {
        "applications": total(saved, "rows"),
        "input_tokens": total(saved, "input_tokens"),
        "trained_tokens": total(saved, "trained_tokens"),
        "computed_tokens": total(saved, "computed_tokens"),
    }
    for name, value in told.items():
        yield claim(f"checkpoint.{name}", getattr(state, name), value, "events.jsonl")
    row_sum = order_of(plan).row_sum(state.job_step)
    yield claim("checkpoint.row_sum", state.row_sum, row_sum, "the order")


def _trainable(receipt: Receipt, path: Path) -> Iterator[Claim]:
    """Every trainable tensor has its moments."""
    tensors = receipt.learning_facts.tensors
    if tensors is None:
        return
    by = f"{path.name}/optimizer.safetensors"
    try:
        names = read_header(path / "optimizer.safetensors")
    except (OSError, ValueError) as error:
        yield claim("tensors.trainable", tensors.trainable, f"cannot be read: {error}", by)
        return
    moments = sum(name.startswith("exp_avg/") for name in names)
    yield claim("tensors.trainable", tensors.trainable, moments, by)


# -- refusals --------------------------------------------------------------------------------


def _receipt(folder: RunFolder) -> Receipt:
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
            f"{name} has no receipt yet: it is being trained",
            have=f"{plural(steps, 'step')} in its log, {saved}",
            need="a run that has ended",
            remedies=(Remedy(f"headway status {folder.path}", "what it is doing"),),
        )
    return BrokenContract(
        f"{name} has no receipt: it never came to its end",
        have=f"{plural(steps, 'step')} in its log, {saved}",
        need="receipt.json, which a run writes when it ends",
        remedies=(Remedy("the command that began it", "goes on to its end, and writes one"),),
    )


def _unreadable(folder: RunFolder, name: str) -> BrokenContract:
    return BrokenContract(
        f"{folder.path / name} cannot be read",
        have="other bytes than a run writes",
        need=f"the {name} of this run",
        remedies=(
            Remedy(f"headway backup --list {folder.path.name}", "what there is to go back to"),
        ),
    )
