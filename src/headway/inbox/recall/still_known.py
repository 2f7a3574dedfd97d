"""What is still known of each file: the losses of its kept rows, measured after every file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import UsageError
from headway.base.units import plural
from headway.base.versioned_json import read
from headway.runs.receipt import Loss, Measured, loss_between
from headway.ui.text_layout import loss_text

SCHEMA = "headway.still_known/1"
FILE = "still_known.json"  # in the folder of a file's run
MOST_FILES = 100  # that are measured after each file
FEWEST_FILES = 4  # that are measured whatever they cost, the newest among them
ROWS_SHARE = 0.1  # rows to measure, of those trained: a measured one costs a third of a trained one
_ROWS = 8  # of a file that nobody has measured yet


@dataclass(frozen=True)
class LearnedFile:
    """A file that the model has learned from.

    Attributes:
        number: of its job.
        name: as people know it.
        run: folder of its run.
    """

    number: int
    name: str
    run: str


@dataclass(frozen=True)
class KnownFile:
    """The loss on the kept rows of one file, in nats per trained token.

    Attributes:
        number: of its job.
        name: as people know it.
        are_held_out: its kept rows were never trained; else they are some of its first step.
        learned: after the file itself was trained, or when it was first measured.
        before: before the newest file was; None of that file itself.
        now: after the newest file.
        problem: why it was not measured now.
    """

    number: int
    name: str
    are_held_out: bool = False
    learned: Measured | None = None
    before: Measured | None = None
    now: Measured | None = None
    problem: str = ""

    @property
    def change(self) -> Loss | None:
        """What the newest file did to it."""
        return loss_between(self.before, self.now) if self.before and self.now else None

    @property
    def since_learned(self) -> Loss | None:
        """What all files after it did to it."""
        return loss_between(self.learned, self.now) if self.learned and self.now else None

    @property
    def is_worse(self) -> bool:
        """Whether the newest file made it worse by more than the spread."""
        return _is_rise(self.change)

    @property
    def is_forgotten(self) -> bool:
        """Whether it is worse than it was when it had been learned, by more than the spread."""
        return _is_rise(self.since_learned)


@dataclass(frozen=True)
class StillKnown:
    """What a model knows of the files that it learned from, in their order.

    Attributes:
        checkpoint: the model, a folder in the run.
        files: the newest is the last.
        num_not_looked_at: earlier files beyond those.
    """

    schema: str
    checkpoint: str
    files: tuple[KnownFile, ...]
    num_not_looked_at: int = 0

    @property
    def is_nothing_forgotten(self) -> bool:
        """Whether every file was measured, and none is forgotten."""
        return not self.why_forgotten

    @property
    def why_forgotten(self) -> str:
        """Why it cannot be said that nothing is forgotten; "" if it can."""
        forgotten = [one for one in self.files if one.is_forgotten]
        if forgotten:
            return f"{_names(forgotten)} forgotten"
        unknown = [one for one in self.files if one.learned is None or one.now is None]
        return f"{_names(unknown)} not measured" if unknown else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the newest file did to earlier ones."""
        newest = self.files[-1].name if self.files else ""
        return tuple(
            f"{one.name} is worse after {newest}: {loss_text(change.before)} -> "
            f"{loss_text(change.after)} (± {loss_text(change.spread)})"
            for one in self.files
            if one.is_worse and (change := one.change)
        )


def files_to_measure(
    files: Sequence[LearnedFile], most_rows: float | None = None
) -> Sequence[LearnedFile]:
    """The files that are measured: all, or every second, fourth, ... of them, and the newest.

    So those that were measured before are measured again.

    Args:
        files: in the order in which they were learned.
        most_rows: of earlier files, if there are more files than a few; None: any number.
    """
    stride = 1
    while len(files) > stride * MOST_FILES:
        stride *= 2
    earlier = files[:-1:stride]
    if most_rows is not None and len(earlier[::2]) + 1 >= FEWEST_FILES:
        rows = [_num_rows(one) for one in earlier]
        while len(earlier[::2]) + 1 >= FEWEST_FILES and sum(rows) > most_rows:
            earlier, rows = earlier[::2], rows[::2]
    return [*earlier, *files[-1:]]


def _num_rows(file: LearnedFile) -> int:
    own = load_still_known(Path(file.run))
    found = own.files[-1].now if own and own.files else None
    return found.rows if found else _ROWS


def load_still_known(run: Path) -> StillKnown | None:
    """What was measured after the file of a run; None if nothing was, or it cannot be read."""
    try:
        return read(run / FILE, StillKnown, SCHEMA)
    except (OSError, msgspec.MsgspecError, UsageError):
        return None


def known_before(file: LearnedFile, parent: StillKnown | None) -> KnownFile:
    """What is known of a file before it is measured: when it was learned, and last."""
    own = load_still_known(Path(file.run))
    learned = next((one for one in own.files if one.number == file.number), None) if own else None
    files = parent.files if parent else ()
    last = next((one for one in files if one.number == file.number), None)
    before = last.now if last else None
    at_first = last.learned or last.now if last else None
    return KnownFile(
        file.number, file.name, learned=learned.now if learned else at_first, before=before
    )


def _is_rise(loss: Loss | None) -> bool:
    return loss is not None and loss.after - loss.before > loss.spread


def _names(files: Sequence[KnownFile]) -> str:
    first, *rest = files
    return first.name + (f" and {plural(len(rest), 'other')}" if rest else "")
