"""Sources without end, or too large to read first: units in a drawn order, records, rows, windows.

What a flow gives is a function of its sources, its settings and a cursor, so that it can be gone on
with anywhere, by anybody, without what came before.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.data.batching.rows import Segment
from headway.data.examples.examples import Example
from headway.data.examples.maker import ExampleMaker
from headway.data.examples.record_batches import in_batches
from headway.data.formats.detect import read
from headway.data.formats.lines import LineNumbers
from headway.data.formats.records import DataKind, Record, Rejected, RejectReason, Skipped
from headway.data.formats.splits import SourceParts
from headway.data.sources.source import Source
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.window import Window, WindowFacts, make_window
from headway.data.survey.refusals import no_usable_records, too_many_rejected

_WRONG_KIND: dict[DataKind, RejectReason] = {
    "text": RejectReason.NOT_TEXT,
    "conversations": RejectReason.NOT_CONVERSATIONS,
    "tokens": RejectReason.NOT_TOKENS,
}
_SHOWN = 1000  # of what is no record, kept to be told of
_JUDGED_AFTER = 100  # records, before which a share of bad ones says little


@dataclass(frozen=True)
class StreamSpec:
    """What rows of a flow look like.

    Attributes:
        kind: of the records; others are rejected.
        max_length: targets of a text's row; tokens of a conversation's.
        truncation: what becomes of longer conversations.
        window_rows: rows of a window.
        held_out: rows that come before all others and are never trained on.
        seed: of the units' order.
        max_rejected: share of unusable records above which the data is refused.
        dtype: of the ids on disk.
    """

    kind: DataKind
    max_length: int
    truncation: Literal["cut", "reject"]
    window_rows: int
    held_out: int
    seed: int
    max_rejected: float
    dtype: str


@dataclass(frozen=True, slots=True)
class _Taken:
    """One record, and the cursor behind it."""

    unit: int
    after: StreamPosition
    item: Record | Rejected | Skipped
    made: Example | Rejected | None = None


class Stream:
    """Windows from any stand on.

    Args:
        units: where records come from.
        maker: makes examples of them.
        shape: of the rows.
        pulse: told what is read, and how many rows, tokens and rejected records came of it.
    """

    def __init__(
        self, units: SourceParts, maker: ExampleMaker, shape: StreamSpec, pulse: Pulse
    ) -> None:
        self.units = units
        self.maker = maker
        self.shape = shape
        self.pulse = pulse
        self._lines = LineNumbers()

    def held_out(self) -> Window:
        """The rows that come before all others.

        Raises:
            DataRefused: as `run` does.
        """
        windows: list[Window] = []

        def take(window: Window) -> None:
            windows.append(window)
            raise _EnoughError

        with contextlib.suppress(_EnoughError):
            self._run(StreamCursor(HELD_OUT), self.shape.held_out, {}, take)
        return windows[0]

    def run(
        self, stand: StreamCursor, held_out: Mapping[int, int], take: Callable[[Window], None]
    ) -> None:
        """Make one window after the other, until `take` raises.

        Args:
            stand: where to begin.
            held_out: records to pass over, by unit, from the beginning of each; -1 for all.
            take: given each window as soon as its rows are complete, even while the source is
                waited for.

        Raises:
            DataRefused: the sources gave no row, or too many records are unusable.
            UsageError, ComeBack: a source cannot be read, or changed.
            Exception: whatever `take` raised.
        """
        self._run(stand, self.shape.window_rows, held_out, take)

    def _run(
        self,
        stand: StreamCursor,
        num_rows: int,
        held_out: Mapping[int, int],
        take: Callable[[Window], None],
    ) -> None:
        filling = _Filling(self.shape, stand, self._placed)

        def fill(batch: list[_Taken]) -> None:
            for taken in self._encoded(batch):
                for row in filling.rows(taken):
                    self.pulse.rows += 1
                    filling.finished.append(row)
                    if len(filling.finished) == num_rows:
                        take(filling.window())
                self.pulse.skipped = filling.num_rejected
                self._judge(filling)

        for epoch in itertools.count(stand.cursor.epoch):
            # An epoch ends before the next one begins: its last batch does not wait for more.
            tally = _Tally()
            records = self._epoch(epoch, stand.cursor, held_out, tally)
            in_batches(records, fill, num_characters=_num_characters, pulse=self.pulse)
            is_whole = epoch > stand.cursor.epoch or not stand.cursor.place
            if is_whole and not tally.num_records:
                raise tally.refusal(self.units.sources)

    def _encoded(self, batch: Sequence[_Taken]) -> Iterator[_Taken]:
        records = [t.item for t in batch if isinstance(t.item, Record)]
        made = deque(self.maker.make(records))
        self.pulse.beat()
        for one in batch:
            made_of = made.popleft() if isinstance(one.item, Record) else None
            yield _Taken(one.unit, one.after, one.item, made_of)

    def _epoch(
        self, epoch: int, cursor: StreamPosition, held_out: Mapping[int, int], tally: "_Tally"
    ) -> Iterator[_Taken]:
        """The records of an epoch that follow the cursor."""
        first = cursor.place if epoch == cursor.epoch else 0
        for place in range(first, len(self.units)):
            skip = cursor.taken if (epoch, place) == (cursor.epoch, cursor.place) else 0
            for one in self._unit(epoch, place, skip, held_out):
                tally.count(one.item)
                yield one

    def _unit(
        self, epoch: int, place: int, skip: int, held_out: Mapping[int, int]
    ) -> Iterator[_Taken]:
        unit = self.units.at(self.shape.seed, epoch, place)
        passed_over = held_out.get(unit, 0)
        if passed_over < 0:
            return
        source, span = self.units[unit]
        self.pulse.progress(place)
        last = None
        skip_corrupt = self.maker.options.skip_corrupt
        items = read(source, _ignore, self.pulse, span=span, skip_corrupt=skip_corrupt)
        for taken, item in enumerate(items, 1):
            if isinstance(item, Record) and item.kind != self.shape.kind:
                item = Rejected(item.file, item.line, _WRONG_KIND[self.shape.kind], item.kind)
            if last is not None:
                yield last
            last = None
            if taken > max(skip, passed_over):
                last = _Taken(unit, StreamPosition(epoch, place, taken), item)
        if last is not None:  # the last record of a unit leads to the next unit
            yield _Taken(unit, StreamPosition(epoch, place + 1), last.item)

    def _placed(self, rejected: Rejected, unit: int) -> Rejected:
        return self._lines.in_file(rejected, *self.units[unit])

    def _judge(self, filling: "_Filling") -> None:
        most = self.shape.max_rejected * filling.read
        if filling.bad and filling.read >= _JUDGED_AFTER and filling.num_rejected > most:
            raise too_many_rejected(
                filling.bad, filling.num_rejected, filling.read, self.shape.max_rejected
            )


class _Tally:
    """What an epoch held: records, and some of what could not be used."""

    def __init__(self) -> None:
        self.num_records = 0
        self._unusable: list[Rejected | Skipped] = []

    def count(self, item: Record | Rejected | Skipped) -> None:
        """Count one item."""
        if isinstance(item, Record):
            self.num_records += 1
        elif len(self._unusable) < _SHOWN:
            self._unusable.append(item)

    def refusal(self, sources: Sequence[Source]) -> DataRefused:
        """Why an epoch without a record is refused."""
        rejected = [one for one in self._unusable if isinstance(one, Rejected)]
        skipped = [one for one in self._unusable if isinstance(one, Skipped)]
        blank = Rejected(sources[0].name, 1, RejectReason.BLANK)
        return no_usable_records(sources, rejected if self._unusable else [blank], skipped)


class _EnoughError(Exception):
    """The window that was wanted is complete."""


class _Filling:
    """Rows under way: examples in, rows out, everything counted where it is used up."""

    def __init__(
        self, shape: StreamSpec, stand: StreamCursor, placed: Callable[[Rejected, int], Rejected]
    ) -> None:
        self.shape = shape
        self.placed = placed
        self.number = stand.window
        self.read = stand.read
        self.rejected = dict(stand.rejected)
        self.truncated = stand.truncated
        self.finished: list[list[Segment]] = []
        self.bad: list[Rejected] = []
        self._units: dict[int, int] = {}
        self._cursor = stand.cursor
        self._offset = stand.cursor.offset
        self._row: list[Segment] = []
        self._room = shape.max_length

    @property
    def num_rejected(self) -> int:
        """Records that cannot be trained on, so far."""
        return sum(self.rejected.values())

    def rows(self, taken: _Taken) -> Iterator[list[Segment]]:
        """The rows that a record completes. The cursor is right at each of them."""
        before = self._cursor
        if isinstance(taken.item, Skipped):
            pass
        elif isinstance(taken.made, Example):
            self.read += not self._offset
            if self.shape.kind == "text":
                yield from self._cut(taken.made, taken, before)
            elif row := self._conversation(taken.made, taken.unit):
                self._advance(taken)
                yield [row]
        else:
            self.read += 1
            why = taken.item if isinstance(taken.item, Rejected) else taken.made
            assert isinstance(why, Rejected)
            self._reject(why, taken.unit)
        self._advance(taken)

    def _advance(self, taken: _Taken) -> None:
        self._cursor = taken.after
        self._offset = 0
        if self.number == HELD_OUT:
            self._units[taken.unit] = taken.after.taken or -1

    def _cut(
        self, example: Example, taken: _Taken, before: StreamPosition
    ) -> Iterator[list[Segment]]:
        """A text fills the row under way and begins new ones."""
        num_targets = len(example.ids) - 1
        at = self._offset
        while at < num_targets:
            end = min(at + self._room, num_targets)
            self._row.append(Segment(example.ids[at : end + 1], None))
            self._room -= end - at
            at = end
            if not self._room:
                row, self._row, self._room = self._row, [], self.shape.max_length
                if at == num_targets:
                    self._advance(taken)
                else:
                    self._cursor = StreamPosition(before.epoch, before.place, before.taken, at)
                    if self.number == HELD_OUT:  # what is left of this text is not trained either
                        self._advance(taken)
                yield row

    def _conversation(self, example: Example, unit: int) -> Segment | None:
        """Up to its last trained token, within `max_length`."""
        longest = self.shape.max_length
        too_long = len(example.ids) > longest
        if too_long and self.shape.truncation == "reject":
            self._reject(Rejected(example.file, example.line, RejectReason.TOO_LONG), unit)
            return None
        learned = np.flatnonzero(example.trained[:longest])
        if not len(learned):
            self._reject(Rejected(example.file, example.line, RejectReason.NO_ANSWER_LEFT), unit)
            return None
        self.truncated += too_long
        end = int(learned[-1]) + 1
        return Segment(example.ids[:end], example.trained[1:end])

    def _reject(self, rejected: Rejected, unit: int) -> None:
        reason = rejected.reason.value
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self.bad.append(self.placed(rejected, unit))

    def window(self) -> Window:
        """What is finished, as a window."""
        after = StreamCursor(
            self.number + 1, self._cursor, self.read, dict(self.rejected), self.truncated
        )
        facts = WindowFacts(after, tuple(self.bad), dict(self._units))
        window = make_window(self.finished, facts, self.shape.dtype)
        self.finished, self.bad = [], []
        self.number += 1
        return window


def _num_characters(taken: _Taken) -> int:
    return sum(map(len, taken.item.texts)) if isinstance(taken.item, Record) else 0


def _ignore(_: bytes) -> None:
    pass
