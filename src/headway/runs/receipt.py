"""Receipt: its fields, the contract and the verdict on learning.

The contract says whether the run did what was planned. Learning says whether the model got better
at the data. Each is a pure function of facts in the run's folder, so `verify` can judge again.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.events import StepDone
from headway.base.files import write_whole
from headway.base.host.contention import OtherWork
from headway.base.units import plural
from headway.base.versioned_json import read
from headway.runs.facts import html_table, receipt_facts, row_counts
from headway.runs.log_facts import ReceiptStalls
from headway.runs.workers import ReceiptWorker

SCHEMA = "headway.receipt/1"
MAX_NAMES = 10  # tensors that a receipt lists by name


@dataclass(frozen=True)
class StepReport:
    """One finished step: its update has been applied to the weights."""

    step: int  # of this job, counted from 1
    global_step: int
    epoch: int  # counted from 0
    loss: float  # nats per trained token, mean over the batch, before the update
    grad_norm: float  # before clipping
    learning_rate: float
    rows: int
    row_sum: int  # sum of hash64(row, epoch) over the rows, modulo 2**64
    trained_tokens: int
    input_tokens: int
    computed_tokens: int  # fewer than input_tokens if rows shared a prefix
    seconds: float
    workers: int = 1  # that computed it
    all_workers: int = 1  # of the run
    groups: int = 1  # with a worker that computed it
    all_groups: int = 1
    replayed: int = 0  # rows of earlier runs beside them
    replay_sum: int = 0  # sum of hash64(row, 0) over these, modulo 2**64

    def event(self) -> StepDone:
        """The event for the log, where epochs count from 1."""
        return StepDone(**asdict(self) | {"epoch": self.epoch + 1})


@dataclass(frozen=True)
class ReceiptRows:
    """The row ledger: planned and trained."""

    read: int  # records
    rejected: dict[str, int]
    accepted: int  # rows
    held_out: int
    planned: int
    not_planned: int
    trained: int
    applications_planned: int  # rows, counted each time they are planned
    applications: int  # rows, counted each time they were trained
    missing: int
    repeated: int
    row_sum: int  # summed by the trainer
    row_sum_planned: int
    replayed: int = 0  # rows of earlier runs, each counted as often as it was trained
    replay_sum: int = 0  # sum of hash64(row, 0) over these, modulo 2**64
    replay_sum_planned: int = 0


@dataclass(frozen=True)
class ReceiptTokens:
    """Tokens of all applied steps."""

    input: int
    trained: int
    padding: int
    padding_share: float
    truncated: int  # conversations cut
    shared: int  # input tokens of shared prefixes that were not computed again


@dataclass(frozen=True)
class ReceiptSteps:
    """Steps of this job; `first` and `last` are global steps."""

    first: int
    last: int
    planned: int
    applied: int


@dataclass(frozen=True)
class Measured:
    """A mean loss over some rows in eval mode, in nats per trained token."""

    mean: float
    error: float  # standard error over the tokens
    rows: int


@dataclass(frozen=True)
class Losses:
    """Losses measured at one time: before the first update, or after the last."""

    probe: Measured
    held_out: Measured | None


@dataclass(frozen=True)
class Loss:
    """A loss before the first update and after the last, in nats per trained token."""

    before: float
    after: float
    rows: int
    spread: float  # standard error of the difference


@dataclass(frozen=True)
class TensorAudit:
    """How the trainable tensors changed."""

    trainable: int
    with_gradient: int  # at least one non-zero gradient
    changed: int
    relative_change: float  # norm of all changes / norm of all initial weights
    unmoved: tuple[str, ...]  # had a gradient but did not change: up to ten names
    dead: tuple[str, ...]  # never had a gradient: up to ten names
    saved: int | None = None  # same bits in the last checkpoint; None: not loaded and compared
    differing: tuple[str, ...] = ()  # not the same bits there: up to ten names


@dataclass(frozen=True)
class ReceiptLearning:
    """Measurements of learning."""

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
    max_silence: float | None  # longest time without a beat of the pulse or an event
    other_work: OtherWork | None = None  # of this machine, during the steps
    watching: float | None = None  # of `total`, the trainer's own: writing its pulse and events


@dataclass(frozen=True)
class ReceiptSpeed:
    """Averages over the time spent in steps."""

    tokens_per_second: float
    trained_tokens_per_second: float
    flops_per_second: float
    mfu: float | None  # share of this machine's measured peak; None if not measured


@dataclass(frozen=True)
class EstimatedActual:
    """An estimate of the plan and the actual value."""

    foretold: float | None  # the estimate
    actual: float


@dataclass(frozen=True)
class PlanAgainstActual:
    """Estimates of the plan, and what happened."""

    seconds: EstimatedActual  # refined after step 3
    peak_memory: EstimatedActual  # bytes
    padding_share: EstimatedActual


@dataclass(frozen=True)
class ReceiptCheckpoint:
    """The last checkpoint that was written and read back."""

    name: str
    manifest_sha256: str
    bytes: int


@dataclass(frozen=True)
class Judgment:
    """A verdict and its reasons."""

    verdict: Literal["kept", "broken", "improved", "unclear", "not"]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Facts that decide the contract."""

    outcome: Literal["finished", "interrupted", "failed"]
    why: str  # what ended it early, for people; "" if nothing did
    planned_steps: int
    applied_steps: int
    rows: ReceiptRows
    tensors: TensorAudit | None
    losses_finite: bool  # False if a step was not applied because loss or gradient was not finite
    checkpoint: ReceiptCheckpoint | None


def loss_between(before: Measured, after: Measured) -> Loss:
    """Compare two measurements of the same rows."""
    return Loss(before.mean, after.mean, before.rows, (before.error**2 + after.error**2) ** 0.5)


def judge_contract(facts: Facts) -> Judgment:
    """Judge whether the run did what was planned. Every broken clause is a reason.

    An interrupted run keeps its contract if everything it did was as planned. A failed run never
    does.
    """
    rows, tensors = facts.rows, facts.tensors
    reasons: list[str] = []
    if facts.outcome == "failed":
        reasons.append(facts.why or "the run failed")
    if facts.outcome == "finished" and facts.applied_steps != facts.planned_steps:
        reasons.append(f"{facts.applied_steps} of {facts.planned_steps} planned updates applied")
    if rows.missing or rows.repeated:
        reasons.append(
            f"the ledger does not add up: {rows.missing} rows missing, {rows.repeated} repeated"
        )
    elif rows.row_sum != rows.row_sum_planned:
        reasons.append("the ledger does not add up: the steps trained other rows than planned")
    if rows.replay_sum != rows.replay_sum_planned:
        reasons.append("the replayed rows of earlier runs are not the planned ones")
    if not facts.losses_finite:
        reasons.append("a loss was not finite")
    if facts.applied_steps and tensors is not None:
        reasons += _broken_tensors(tensors)
    if facts.checkpoint is None and facts.applied_steps:
        reasons.append("no checkpoint was read back")
    return Judgment("broken" if reasons else "kept", tuple(reasons))


def _broken_tensors(tensors: TensorAudit) -> list[str]:
    reasons: list[str] = []
    if tensors.differing:
        num = tensors.trainable - (tensors.saved or 0)
        reasons.append(
            f"the checkpoint differs from the trained weights in {num} of {tensors.trainable} "
            f"tensors, such as {tensors.differing[0]}"
        )
    if tensors.unmoved:
        num = len(tensors.unmoved)
        reasons.append(
            f"{num}{' or more' if num == MAX_NAMES else ''} of {tensors.trainable} trainable "
            f"tensors had a gradient but did not change, such as {tensors.unmoved[0]}"
        )
    elif not tensors.changed:
        reasons.append("no trainable tensor changed")
    return reasons


def judge_learning(train_probe: Loss | None, held_out: Loss | None, applied_steps: int) -> Judgment:
    """Judge whether the model got better at the data.

    Under 10 steps, or if the loss changed by at most twice the spread, learning is unclear.
    """
    reasons: list[str] = []
    if held_out and held_out.after > held_out.before:
        reasons.append(f"held-out loss rose: {held_out.before:.2f} -> {held_out.after:.2f}")
    if train_probe is None or not applied_steps:
        return Judgment("unclear", ("not measured",))
    if applied_steps < 10:
        return Judgment("unclear", ("under 10 steps", *reasons))
    gain = train_probe.before - train_probe.after
    if abs(gain) <= 2 * train_probe.spread:
        return Judgment("unclear", (f"within the spread of {train_probe.spread:.2f}", *reasons))
    return Judgment("improved" if gain > 0 else "not", tuple(reasons))


def closing_line(
    facts: Facts,
    contract: Judgment,
    learning: Judgment,
    train_probe: Loss | None,
    held_out: Loss | None,
) -> str:
    """The last line on the screen: both judgments, with numbers."""
    done = f"{facts.applied_steps:,} of {plural(facts.planned_steps, 'step')}"
    if contract.verdict == "broken":
        first = f"broken: {contract.reasons[0]} ({done})"
    elif facts.outcome == "interrupted":
        saved = "saved" if facts.checkpoint else "nothing to save"
        first = f"kept so far: {done}, {saved} ({facts.why})"
    else:
        first = f"kept: {done}, {row_counts(facts.rows.planned, facts.rows.applications)}"
    saved_step = facts.applied_steps if facts.checkpoint else 0
    then = f" · {how_to_resume(saved_step)}" if facts.outcome == "interrupted" else ""
    if train_probe is None:
        return first + then
    numbers = f"{train_probe.before:.2f} -> {train_probe.after:.2f}"
    if held_out:
        numbers += f" (held out {held_out.before:.2f} -> {held_out.after:.2f})"
    why = f", {'; '.join(learning.reasons)}" if learning.reasons else ""
    return f"{first} · {_WORDS[learning.verdict]}: {numbers}{why}{then}"


def how_to_resume(saved_step: int) -> str:
    """What the same command does after a stop.

    Args:
        saved_step: step of the job that the newest checkpoint is at, 0 if there is none.
    """
    if not saved_step:
        return "the same command starts it again"
    return f"the same command resumes from step {saved_step:,}"


_WORDS = {"improved": "improved", "unclear": "unclear", "not": "not improved"}


@dataclass(frozen=True)
class Receipt:
    """What a run did, and whether it was what was planned."""

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
    contract: Judgment
    learning: Judgment
    line: str  # the closing line
    workers: tuple[ReceiptWorker, ...] = ()  # empty if there was one
    reduction: str = ""  # how their gradients were added
    stalls: ReceiptStalls | None = None  # None if there were none

    @property
    def is_sound(self) -> bool:
        """Whether the contract was kept and the model did not fail to learn."""
        return self.contract.verdict == "kept" and self.learning.verdict != "not"

    def __repr__(self) -> str:
        """One line."""
        return f"<Receipt {self.run} {self.outcome} · {self.line}>"

    def _repr_html_(self) -> str:
        """A table, in a notebook."""
        return html_table(f"{self.run} {self.outcome}", receipt_facts(self))

    def save(self, folder: Path) -> None:
        """Write receipt.json into the run's folder.

        Raises:
            MachineError: it cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        write_whole(folder / "receipt.json", text)


def load_receipt(folder: Path) -> Receipt:
    """Read receipt.json.

    Raises:
        OSError: there is none.
        msgspec.MsgspecError: it is not a valid receipt.
        UsageError: a newer Headway wrote it.
    """
    return read(folder / "receipt.json", Receipt, SCHEMA)
