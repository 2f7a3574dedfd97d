"""From what happened to contract and learning.

Two judgements, never mixed. The contract asks whether the run did what was planned; learning asks
whether the model got better at the data. Both are pure functions of facts that the run's folder
holds, so that anybody can come to the same verdict again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.events import StepDone
from headway.base.files import write_whole
from headway.base.units import plural
from headway.base.versioned_json import read

SCHEMA = "headway.receipt/1"
MOST_NAMED = 10  # tensors that a receipt lists by name


@dataclass(frozen=True)
class StepReport:
    """One finished step: its update has reached the weights."""

    step: int  # of this job, counted from 1
    global_step: int
    epoch: int  # counted from 0
    loss: float  # nats per trained token, mean over the batch, before the update
    grad_norm: float  # before clipping
    learning_rate: float
    rows: int
    trained_tokens: int
    input_tokens: int
    computed_tokens: int  # fewer than input_tokens where rows shared what they begin with
    seconds: float

    @property
    def told(self) -> StepDone:
        """As the log has it: people count epochs from 1."""
        return StepDone(**asdict(self) | {"epoch": self.epoch + 1})


@dataclass(frozen=True)
class ReceiptRows:
    """The ledger, closed: planned against trained."""

    read: int  # records
    rejected: dict[str, int]
    accepted: int  # rows
    held_out: int
    planned: int
    not_planned: int
    trained: int
    applications_planned: int  # rows, each counted as often as it was to be trained
    applications: int
    missing: int
    repeated: int
    row_sum: int  # as the trainer added it up
    row_sum_planned: int


@dataclass(frozen=True)
class ReceiptTokens:
    """Tokens of all applied steps."""

    input: int
    trained: int
    padding: int
    padding_share: float
    truncated: int  # conversations cut
    shared: int  # input tokens that did not run again: another row of the step begins alike


@dataclass(frozen=True)
class ReceiptSteps:
    """Global steps."""

    first: int
    last: int
    planned: int
    applied: int


@dataclass(frozen=True)
class Measured:
    """A mean loss over some rows in eval mode, nats per trained token."""

    mean: float
    error: float  # standard error over the tokens
    rows: int


@dataclass(frozen=True)
class Losses:
    """What is measured before the first update and after the last."""

    probe: Measured
    held_out: Measured | None


@dataclass(frozen=True)
class Loss:
    """A loss before the first update and after the last, nats per trained token."""

    before: float
    after: float
    rows: int
    spread: float  # standard error of the difference


@dataclass(frozen=True)
class TensorAudit:
    """What became of the trainable tensors."""

    trainable: int
    with_gradient: int  # at least one non-zero gradient
    changed: int
    relative_change: float  # norm of all changes over the norm of all weights at the start
    unmoved: tuple[str, ...]  # had gradient and did not change: names, at most ten
    dead: tuple[str, ...]  # never had any gradient: names, at most ten


@dataclass(frozen=True)
class ReceiptLearning:
    """What was measured of learning."""

    train_probe: Loss | None
    held_out: Loss | None
    loss_first: float | None
    loss_last: float | None
    grad_norm_first: float | None
    grad_norm_last: float | None
    nonfinite_steps: int
    tensors: TensorAudit | None


@dataclass(frozen=True)
class ReceiptTime:
    """Seconds of this attempt."""

    total: float
    by_phase: dict[str, float]
    to_first_step: float | None
    max_silence: float | None  # longest time without something new in the pulse or the log


@dataclass(frozen=True)
class ReceiptSpeed:
    """Over the time inside steps."""

    tokens_per_second: float
    trained_tokens_per_second: float
    flops_per_second: float
    mfu: float | None  # share of this machine's measured peak; None where it was not measured


@dataclass(frozen=True)
class ForetoldActual:
    """One number of the plan beside what came of it."""

    foretold: float | None
    actual: float


@dataclass(frozen=True)
class PlanAgainstActual:
    """How good the plan was."""

    seconds: ForetoldActual  # as refined after step 3
    peak_memory: ForetoldActual  # bytes
    padding_share: ForetoldActual


@dataclass(frozen=True)
class ReceiptCheckpoint:
    """The last checkpoint that was read back."""

    name: str
    manifest_sha256: str
    bytes: int


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons."""

    verdict: Literal["kept", "broken", "improved", "unclear", "not"]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What the contract is judged by."""

    outcome: Literal["finished", "interrupted", "failed"]
    why: str  # what ended it early, "" otherwise
    planned_steps: int
    applied_steps: int
    rows: ReceiptRows
    tensors: TensorAudit | None
    losses_finite: bool
    checkpoint: ReceiptCheckpoint | None


def loss_between(before: Measured, after: Measured) -> Loss:
    """Two measurements of the same rows."""
    spread = (before.error**2 + after.error**2) ** 0.5
    return Loss(before.mean, after.mean, before.rows, spread)


def judge_contract(facts: Facts) -> Judgement:
    """Did the run do what was planned? Every broken clause is a reason.

    An interrupted run keeps its contract when all it did was as planned; a failed one breaks it.
    """
    rows, tensors = facts.rows, facts.tensors
    reasons: list[str] = []
    if facts.outcome == "failed":
        reasons.append(facts.why or "it failed")
    if facts.outcome == "finished" and facts.applied_steps != facts.planned_steps:
        reasons.append(f"{facts.applied_steps} of {facts.planned_steps} planned updates applied")
    if rows.missing or rows.repeated or rows.row_sum != rows.row_sum_planned:
        reasons.append(
            f"the ledger does not add up: {rows.missing} rows missing, {rows.repeated} repeated"
        )
    if not facts.losses_finite:
        reasons.append("a loss was not finite")
    if facts.applied_steps and tensors is not None:
        reasons += _broken_tensors(tensors)
    if facts.checkpoint is None and facts.applied_steps:
        reasons.append("no checkpoint was read back")
    return Judgement("broken" if reasons else "kept", tuple(reasons))


def _broken_tensors(tensors: TensorAudit) -> list[str]:
    reasons: list[str] = []
    if tensors.unmoved:
        named = len(tensors.unmoved)
        reasons.append(
            f"{named}{' or more' if named == MOST_NAMED else ''} of {tensors.trainable} trainable "
            f"tensors had gradient and did not change, {tensors.unmoved[0]} among them"
        )
    elif not tensors.changed:
        reasons.append("no trainable tensor changed")
    return reasons


def judge_learning(
    train_probe: Loss | None, held_out: Loss | None, applied_steps: int
) -> Judgement:
    """Did the model get better at the data? Within twice the spread, or under 10 steps: unclear."""
    reasons: list[str] = []
    if held_out and held_out.after > held_out.before:
        reasons.append(f"held-out loss rose: {held_out.before:.2f} -> {held_out.after:.2f}")
    if train_probe is None or not applied_steps:
        return Judgement("unclear", ("not measured",))
    if applied_steps < 10:
        return Judgement("unclear", ("under 10 steps", *reasons))
    gain = train_probe.before - train_probe.after
    if abs(gain) <= 2 * train_probe.spread:
        return Judgement("unclear", (f"within the spread of {train_probe.spread:.2f}", *reasons))
    return Judgement("improved" if gain > 0 else "not", tuple(reasons))


def closing_line(
    facts: Facts,
    contract: Judgement,
    learning: Judgement,
    train_probe: Loss | None,
    held_out: Loss | None,
) -> str:
    """The last line on the screen: both judgements, with numbers."""
    done = f"{facts.applied_steps:,} of {plural(facts.planned_steps, 'step')}"
    if contract.verdict == "broken":
        first = f"broken: {contract.reasons[0]} ({done})"
    elif facts.outcome == "interrupted":
        saved = "saved" if facts.checkpoint else "nothing to save"
        first = f"kept so far: {done}, {saved} ({facts.why})"
    else:
        first = f"kept: {done}, {_times(facts)}"
    if train_probe is None:
        return first
    numbers = f"{train_probe.before:.2f} -> {train_probe.after:.2f}"
    if held_out:
        numbers += f" (held out {held_out.before:.2f} -> {held_out.after:.2f})"
    why = f", {'; '.join(learning.reasons)}" if learning.reasons else ""
    return f"{first} · {_SAID[learning.verdict]}: {numbers}{why}"


_SAID = {"improved": "improved", "unclear": "unclear", "not": "not improved"}


def _times(facts: Facts) -> str:
    rows = facts.rows
    noun = "row" if rows.planned == 1 else "rows"
    if rows.applications == rows.planned:
        return f"{rows.planned:,} {noun} once each"
    if rows.planned and rows.applications % rows.planned == 0:
        return f"{rows.planned:,} {noun} {rows.applications // rows.planned:,} times each"
    return f"{rows.planned:,} {noun}, {rows.applications / rows.planned:.1f} times on average"


@dataclass(frozen=True)
class Receipt:
    """What a run did, and whether that is what was planned."""

    schema: str
    run: str
    outcome: Literal["finished", "interrupted", "failed"]
    plan: str  # the plan's identity
    at: str  # UTC, when it was written
    attempts: int
    rows: ReceiptRows
    tokens: ReceiptTokens
    steps: ReceiptSteps
    learning_facts: ReceiptLearning
    time: ReceiptTime
    speed: ReceiptSpeed
    plan_against_actual: PlanAgainstActual
    checkpoint: ReceiptCheckpoint | None
    environment: dict[str, str]
    contract: Judgement
    learning: Judgement
    line: str  # the closing line

    def save(self, folder: Path) -> None:
        """Write receipt.json into the run's folder."""
        write_whole(
            folder / "receipt.json", msgspec.json.format(msgspec.json.encode(self), indent=2)
        )


def load_receipt(folder: Path) -> Receipt:
    """Read receipt.json.

    Raises:
        OSError: there is none.
        msgspec.MsgspecError: it is not a receipt.
        UsageError: it is one of a newer Headway.
    """
    return read(folder / "receipt.json", Receipt, SCHEMA)
