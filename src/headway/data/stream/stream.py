"""Data stream: sources too large to read before step 1, as units, records, rows and windows.

A stream's rows are a function of its sources, its settings and a cursor, so reading can continue
from any cursor in any process.
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
from headway.data.examples.record_batches import batch_records
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
_MAX_UNUSABLE = 1000  # unusable items kept for a refusal
_MIN_READ = 100  # records; with fewer, the rejected share means little


@dataclass(frozen=True)
class StreamSpec:
    """How a stream is cut into rows and windows.

    Attributes:
        kind: of the records; others are rejected.
        max_length: targets in a row of text; tokens in a conversation.
        truncation: how longer conversations are handled.
        window_rows: rows per window.
        held_out: rows that come before all others and are never trained.
        seed: for the order of units.
        max_rejected: share of rejected records above which the data is refused.
        dtype: of ids on disk.
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
class _StreamItem:
    """One item of a unit, the position after it, and its example."""

    unit: int
    after: StreamPosition
    item: Record | Rejected | Skipped
    made: Example | Rejected | None = None


class Stream:
    """Makes windows, starting from any cursor.

    Args:
        units: supply the records.
        maker: turns records into examples.
        spec: of the rows.
        pulse: shows what is read, with rows, tokens and rejected records so far.
    """

    def __init__(
        self, units: SourceParts, maker: ExampleMaker, spec: StreamSpec, pulse: Pulse
    ) -> None:
        self.units = units
        self.maker = maker
        self.spec = spec
        self.pulse = pulse
        self._lines = LineNumbers()

    def held_out(self) -> Window:
        """The window of held-out rows.

        Raises:
            DataRefused: as for `run`.
        """
        windows: list[Window] = []

        def take(window: Window) -> None:
            windows.append(window)
            raise _EnoughError

        with contextlib.suppress(_EnoughError):
            self._run(StreamCursor(HELD_OUT), self.spec.held_out, {}, take)
        return windows[0]

    def run(
        self, cursor: StreamCursor, held_out: Mapping[int, int], take: Callable[[Window], None]
    ) -> None:
        """Make one window after another until `take` raises.

        Args:
            cursor: where to start.
            held_out: records to skip at the start of each unit, by unit; -1 for all of them.
            take: called with each window as soon as its rows are complete, even while the source
                is waited for.

        Raises:
            DataRefused: the sources gave no row, or too many records were rejected.
            UsageError, ComeBack: a source cannot be read, or changed.
            Exception: whatever `take` raised.
        """
        self._run(cursor, self.spec.window_rows, held_out, take)

    def _run(
        self,
        cursor: StreamCursor,
        num_rows: int,
        held_out: Mapping[int, int],
        take: Callable[[Window], None],
    ) -> None:
        builder = _WindowBuilder(self.spec, cursor, self._locate)

        def fill(batch: list[_StreamItem]) -> None:
            for item in self._make_examples(batch):
                for row in builder.rows(item):
                    self.pulse.rows += 1
                    builder.finished.append(row)
                    if len(builder.finished) == num_rows:
                        take(builder.window())
                self.pulse.skipped = builder.num_rejected
                self._check_rejected(builder)

        for epoch in itertools.count(cursor.cursor.epoch):
            # An epoch ends before the next one starts: its last batch does not wait for more.
            tally = _Tally()
            items = self._epoch(epoch, cursor.cursor, held_out, tally)
            batch_records(items, fill, num_characters=_num_characters, pulse=self.pulse)
            is_whole = epoch > cursor.cursor.epoch or not cursor.cursor.place
            if is_whole and not tally.num_records:
                raise tally.refusal(self.units.sources)

    def _make_examples(self, batch: Sequence[_StreamItem]) -> Iterator[_StreamItem]:
        records = [one.item for one in batch if isinstance(one.item, Record)]
        made = deque(self.maker.make(records))
        self.pulse.beat()
        for one in batch:
            example = made.popleft() if isinstance(one.item, Record) else None
            yield _StreamItem(one.unit, one.after, one.item, example)

    def _epoch(
        self, epoch: int, start: StreamPosition, held_out: Mapping[int, int], tally: "_Tally"
    ) -> Iterator[_StreamItem]:
        """The items of an epoch after a position."""
        first = start.place if epoch == start.epoch else 0
        for place in range(first, len(self.units)):
            skip = start.taken if (epoch, place) == (start.epoch, start.place) else 0
            for one in self._unit(epoch, place, skip, held_out):
                tally.count(one.item)
                yield one

    def _unit(
        self, epoch: int, place: int, skip: int, held_out: Mapping[int, int]
    ) -> Iterator[_StreamItem]:
        unit = self.units.at(self.spec.seed, epoch, place)
        num_held_out = held_out.get(unit, 0)
        if num_held_out < 0:
            return
        source, span = self.units[unit]
        self.pulse.progress(place)
        last = None
        skip_corrupt = self.maker.options.skip_corrupt
        items = read(source, _ignore, self.pulse, span=span, skip_corrupt=skip_corrupt)
        for num_taken, item in enumerate(items, 1):
            if isinstance(item, Record) and item.kind != self.spec.kind:
                item = Rejected(item.file, item.line, _WRONG_KIND[self.spec.kind], item.kind)
            if last is not None:
                yield last
            last = None
            if num_taken > max(skip, num_held_out):
                last = _StreamItem(unit, StreamPosition(epoch, place, num_taken), item)
        if last is not None:  # after the last item of a unit comes the next unit
            yield _StreamItem(unit, StreamPosition(epoch, place + 1), last.item)

    def _locate(self, rejected: Rejected, unit: int) -> Rejected:
        return self._lines.in_file(rejected, *self.units[unit])

    def _check_rejected(self, builder: "_WindowBuilder") -> None:
        most = self.spec.max_rejected * builder.read
        if builder.bad and builder.read >= _MIN_READ and builder.num_rejected > most:
            raise too_many_rejected(
                builder.bad, builder.num_rejected, builder.read, self.spec.max_rejected
            )


class _Tally:
    """Records of an epoch, and some of the items that were unusable."""

    def __init__(self) -> None:
        self.num_records = 0
        self._unusable: list[Rejected | Skipped] = []

    def count(self, item: Record | Rejected | Skipped) -> None:
        """Count one item."""
        if isinstance(item, Record):
            self.num_records += 1
        elif len(self._unusable) < _MAX_UNUSABLE:
            self._unusable.append(item)

    def refusal(self, sources: Sequence[Source]) -> DataRefused:
        """The refusal of an epoch without records."""
        rejected = [one for one in self._unusable if isinstance(one, Rejected)]
        skipped = [one for one in self._unusable if isinstance(one, Skipped)]
        blank = Rejected(sources[0].name, 1, RejectReason.BLANK)
        return no_usable_records(sources, rejected if self._unusable else [blank], skipped)


class _EnoughError(Exception):
    """The requested window is complete."""


class _WindowBuilder:
    """Builds windows: examples in, rows out, with the cursor and counts exact at each row."""

    def __init__(
        self, spec: StreamSpec, cursor: StreamCursor, locate: Callable[[Rejected, int], Rejected]
    ) -> None:
        self.spec = spec
        self.locate = locate
        self.number = cursor.window
        self.read = cursor.read
        self.rejected = dict(cursor.rejected)
        self.truncated = cursor.truncated
        self.finished: list[list[Segment]] = []
        self.bad: list[Rejected] = []
        self._units: dict[int, int] = {}
        self._position = cursor.cursor
        self._offset = cursor.cursor.offset
        self._row: list[Segment] = []
        self._room = spec.max_length

    @property
    def num_rejected(self) -> int:
        """Records rejected so far."""
        return sum(self.rejected.values())

    def rows(self, one: _StreamItem) -> Iterator[list[Segment]]:
        """The rows that an item completes. The position is right at each of them."""
        before = self._position
        if isinstance(one.item, Skipped):
            pass
        elif isinstance(one.made, Example):
            self.read += not self._offset
            if self.spec.kind == "text":
                yield from self._cut(one.made, one, before)
            elif row := self._conversation(one.made, one.unit):
                self._advance(one)
                yield [row]
        else:
            self.read += 1
            rejected = one.item if isinstance(one.item, Rejected) else one.made
            assert isinstance(rejected, Rejected)
            self._reject(rejected, one.unit)
        self._advance(one)

    def _advance(self, one: _StreamItem) -> None:
        self._position = one.after
        self._offset = 0
        if self.number == HELD_OUT:
            self._units[one.unit] = one.after.taken or -1

    def _cut(
        self, example: Example, one: _StreamItem, before: StreamPosition
    ) -> Iterator[list[Segment]]:
        """Fill the current row with a text, and start new rows as needed."""
        num_targets = len(example.ids) - 1
        at = self._offset
        while at < num_targets:
            end = min(at + self._room, num_targets)
            self._row.append(Segment(example.ids[at : end + 1], None))
            self._room -= end - at
            at = end
            if not self._room:
                row, self._row, self._room = self._row, [], self.spec.max_length
                if at == num_targets:
                    self._advance(one)
                else:
                    self._position = StreamPosition(before.epoch, before.place, before.taken, at)
                    if self.number == HELD_OUT:  # the rest of this text is not trained either
                        self._advance(one)
                yield row

    def _conversation(self, example: Example, unit: int) -> Segment | None:
        """A conversation up to its last trained token within `max_length`."""
        max_length = self.spec.max_length
        is_too_long = len(example.ids) > max_length
        if is_too_long and self.spec.truncation == "reject":
            self._reject(Rejected(example.file, example.line, RejectReason.TOO_LONG), unit)
            return None
        trained = np.flatnonzero(example.trained[:max_length])
        if not len(trained):
            self._reject(Rejected(example.file, example.line, RejectReason.NO_ANSWER_LEFT), unit)
            return None
        self.truncated += is_too_long
        end = int(trained[-1]) + 1
        return Segment(example.ids[:end], example.trained[1:end])

    def _reject(self, rejected: Rejected, unit: int) -> None:
        reason = rejected.reason.value
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self.bad.append(self.locate(rejected, unit))

    def window(self) -> Window:
        """The finished rows as a window."""
        after = StreamCursor(
            self.number + 1, self._position, self.read, dict(self.rejected), self.truncated
        )
        facts = WindowFacts(after, tuple(self.bad), dict(self._units))
        window = make_window(self.finished, facts, self.spec.dtype)
        self.finished, self.bad = [], []
        self.number += 1
        return window


def _num_characters(one: _StreamItem) -> int:
    return sum(map(len, one.item.texts)) if isinstance(one.item, Record) else 0


def _ignore(_: bytes) -> None:
    pass
