"""Watched receipt: what was seen of a run by another program, and the two judgments on it.

It says less than the receipt of a run of Headway: what the program keeps to itself is None. Each
judgment is a pure function of facts in the receipt, so `verify` can judge again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.files import write_whole
from headway.base.units import plural
from headway.base.versioned_json import read
from headway.runs.receipt import Judgment, Loss, ReceiptSteps, judge_learning

SCHEMA = "headway.watched-receipt/1"
NOT_FINITE = "loss or gradient was not finite"


@dataclass(frozen=True)
class SeenRows:
    """Rows of the batches, told apart by their tokens.

    Attributes:
        applications: rows of applied steps, counted each time; None if they cannot be counted.
        in_data: rows of the data; None if it has no length.
        distinct: rows with different tokens among them; None if they could not be told apart.
        times_least, times_most: how often the least and the most frequent of them came.
        processes: that trained; only the first one's rows, and tokens, are seen.
    """

    applications: int | None
    in_data: int | None = None
    distinct: int | None = None
    times_least: int = 0
    times_most: int = 0
    processes: int = 1

    @property
    def all_equally_often(self) -> bool:
        """Whether it is proved that each row of the data was trained, all of them equally often."""
        whole = self.distinct is not None and self.distinct == self.in_data
        return whole and self.times_least == self.times_most > 0

    @property
    def unseen(self) -> int:
        """Rows that were certainly not trained: more are in the data than came."""
        return 0 if self.applications is None else max((self.in_data or 0) - self.applications, 0)


@dataclass(frozen=True)
class SeenTokens:
    """Tokens of the applied steps; None where the batches do not tell."""

    input: int | None
    trained: int | None
    padding: int | None

    @property
    def padding_share(self) -> float | None:
        """Of all tokens in the batches."""
        if self.input is None or self.padding is None or not self.input + self.padding:
            return None
        return self.padding / (self.input + self.padding)


@dataclass(frozen=True)
class SeenTensors:
    """How the trainable tensors changed.

    Attributes:
        trainable: their number.
        changed: whose bits are others than before the first step.
        with_gradient: that had a gradient other than zero when it was looked at.
        unmoved: had one but did not change: up to ten names.
        dead: had none: up to ten names.
    """

    trainable: int
    changed: int
    with_gradient: int
    unmoved: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeenLearning:
    """What the losses, gradients and weights showed.

    Attributes:
        loss: mean over the first `averaged` steps and over the last, each on its own rows.
        averaged: steps at either end; 0 if there were too few.
        held_out: the first evaluation and the last; None if there were not two.
        loss_first, loss_last: of single steps.
        grad_norm_first, grad_norm_last: before clipping.
        nonfinite_steps: whose loss or gradient was not finite.
        skipped_steps: that the program itself did not apply, such as overflows of fp16.
        rate_max: the highest learning rate of an applied step.
        tensors: how the trainable tensors changed; None if they could not be read.
    """

    loss: Loss | None = None
    averaged: int = 0
    held_out: Loss | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    grad_norm_first: float | None = None
    grad_norm_last: float | None = None
    nonfinite_steps: int = 0
    skipped_steps: int = 0
    rate_max: float | None = None
    tensors: SeenTensors | None = None


@dataclass(frozen=True)
class SeenTime:
    """Seconds.

    Attributes:
        total: from the start of training to its end.
        to_first_step: until the first update; None if there was none.
        max_silence: the longest time without a sign of the training thread.
        watching: spent by Headway in the training thread, before, during and after the steps.
        watching_steps: spent so between the first step and the last.
        steps: from the first step to the last.
    """

    total: float
    to_first_step: float | None
    max_silence: float | None
    watching: float
    watching_steps: float
    steps: float


@dataclass(frozen=True)
class SeenCheckpoint:
    """A checkpoint of the program.

    Attributes:
        folder: absolute.
        global_step: it was saved at.
        bytes: of its weight files.
        sha256: of its weight files, by name.
        problem: why it cannot be used, "" if nothing was found.
    """

    folder: str
    global_step: int
    bytes: int
    sha256: dict[str, str]
    problem: str = ""


@dataclass(frozen=True)
class SeenFacts:
    """Facts that decide the contract of a watched run."""

    outcome: Literal["finished", "interrupted", "failed"]
    why: str  # what ended it early, "" if nothing did
    steps: ReceiptSteps
    rows: SeenRows
    tokens: SeenTokens
    learned: SeenLearning
    checkpoint: SeenCheckpoint | None


@dataclass(frozen=True)
class WatchedReceipt:
    """What was seen of a run by another program, and whether it was what was planned."""

    schema: str
    version: str  # of Headway
    run: str
    by: str
    program: str
    outcome: Literal["finished", "interrupted", "failed"]
    why: str
    at: str  # UTC, when it was written
    steps: ReceiptSteps
    rows: SeenRows
    tokens: SeenTokens
    learning_facts: SeenLearning
    time: SeenTime
    checkpoint: SeenCheckpoint | None
    not_seen: tuple[str, ...]  # what the program keeps to itself, each with its reason
    contract: Judgment
    learning: Judgment
    line: str

    @property
    def is_sound(self) -> bool:
        """Whether the contract was kept and the model did not fail to learn."""
        return self.contract.verdict == "kept" and self.learning.verdict != "not"

    @property
    def facts(self) -> SeenFacts:
        """The facts that the contract is judged by."""
        return SeenFacts(
            self.outcome,
            self.why,
            self.steps,
            self.rows,
            self.tokens,
            self.learning_facts,
            self.checkpoint,
        )

    def save(self, folder: Path) -> None:
        """Write receipt.json into the run's folder.

        Raises:
            MachineError: it cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        write_whole(folder / "receipt.json", text)


def load_watched_receipt(folder: Path) -> WatchedReceipt:
    """Read the receipt.json of a watched run.

    Raises:
        OSError: there is none.
        msgspec.MsgspecError: it is not valid.
        UsageError: a newer Headway wrote it.
    """
    return read(folder / "receipt.json", WatchedReceipt, SCHEMA)


def judge_seen_contract(facts: SeenFacts) -> Judgment:
    """Judge whether the run did what was planned, as far as was seen."""
    steps, learned, tensors = facts.steps, facts.learned, facts.learned.tensors
    reasons: list[str] = []
    if facts.outcome == "failed":
        reasons.append(facts.why or "the run failed")
    if facts.outcome == "finished" and not steps.applied:
        reasons.append("no update was applied")
    elif facts.outcome == "finished" and steps.applied + learned.skipped_steps < steps.planned:
        why = f": {facts.why}" if facts.why else ""
        reasons.append(f"{steps.applied} of {steps.planned} planned updates applied{why}")
    if learned.nonfinite_steps:
        reasons.append(f"{NOT_FINITE} in {plural(learned.nonfinite_steps, 'step')}")
    if steps.applied and facts.tokens.trained == 0:
        reasons.append("no token was trained: every label is masked")
    if steps.applied and learned.rate_max == 0:
        reasons.append("the learning rate was 0 in every step")
    if steps.applied and tensors is not None and tensors.trainable and not tensors.changed:
        reasons.append("no trainable tensor changed")
    if facts.checkpoint is not None and facts.checkpoint.problem:
        name = Path(facts.checkpoint.folder).name
        reasons.append(f"{name} cannot be used: {facts.checkpoint.problem}")
    return Judgment("broken" if reasons else "kept", tuple(reasons))


def change_of(losses: Sequence[float], rows: Sequence[int]) -> tuple[Loss | None, int]:
    """How the loss changed between the first steps and the last.

    Args:
        losses: of the applied steps, in order.
        rows: of the same steps.

    Returns:
        The change, and how many steps were averaged at either end: a quarter, 50 at most. None and
        0 if there are too few, or if a loss is not finite.
    """
    num = min(len(losses) // 4, 50)
    if num < 1 or not all(map(math.isfinite, losses)):
        return None, 0
    first, last = losses[:num], losses[-num:]
    spread = math.hypot(_error(first), _error(last))
    return Loss(_mean(first), _mean(last), sum(rows[:num]) + sum(rows[-num:]), spread), num


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _error(values: Sequence[float]) -> float:
    """The standard error of the mean; 0 of a single value."""
    if len(values) < 2:
        return 0.0
    middle = _mean(values)
    variance = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def judge_seen_learning(learned: SeenLearning, applied: int) -> Judgment:
    """Judge whether the losses fell between the first steps and the last."""
    return judge_learning(learned.loss, learned.held_out, applied)


def seen_line(facts: SeenFacts, contract: Judgment, learning: Judgment) -> str:
    """The closing line: both judgments, with numbers."""
    steps, loss, held_out = facts.steps, facts.learned.loss, facts.learned.held_out
    done = f"{steps.applied:,} of {plural(steps.planned, 'step')}"
    if facts.learned.skipped_steps:
        done += f" ({facts.learned.skipped_steps:,} skipped by the program)"
    rows = _row_counts(facts.rows)
    if contract.verdict == "broken":
        first = f"broken: {contract.reasons[0]} ({done})"
    elif facts.outcome == "interrupted":
        first = f"kept so far: {done}{rows} ({facts.why})"
    else:
        first = f"kept: {done}{rows}"
    if loss is None:
        return first
    word = {"not": "not improved"}.get(learning.verdict, learning.verdict)
    numbers = f"{loss.before:.2f} -> {loss.after:.2f}"
    numbers += f" in the first and last {plural(facts.learned.averaged, 'step')}"
    if held_out:
        numbers += f" (held out {held_out.before:.2f} -> {held_out.after:.2f})"
    why = f", {'; '.join(learning.reasons)}" if learning.reasons else ""
    return f"{first} · {word}: {numbers}{why}"


def _row_counts(rows: SeenRows) -> str:
    if rows.applications is None:
        return ""
    if rows.all_equally_often:
        times = {1: "once", 2: "twice"}.get(rows.times_most, f"{rows.times_most} times")
        return f", {plural(rows.in_data or 0, 'row')} {times} each"
    if rows.processes > 1:
        return f", {plural(rows.applications, 'row')} in the first of {rows.processes} processes"
    unseen = f" ({rows.unseen:,} of the data not seen)" if rows.unseen else ""
    return f", {plural(rows.applications, 'row')}{unseen}"
