"""Data stream: sources too large to read before step 1, as units, records, rows and windows.

A stream's rows are a function of its sources, its settings and a cursor, so reading can continue
from any cursor in any process.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.data.examples.maker import ExampleMaker
from headway.data.examples.record_batches import batch_records
from headway.data.formats.detect import read
from headway.data.formats.lines import LineNumbers
from headway.data.formats.records import LEFT_OUT, DataKind, Record, Rejected, RejectReason, Skipped
from headway.data.formats.splits import SourceParts
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.spec import StreamSpec
from headway.data.stream.window import RowOrigin, Window
from headway.data.stream.window_builder import StreamItem, WindowBuilder
from headway.data.survey.refusals import no_usable_records, too_few_rows, too_many_rejected

_WRONG_KIND: dict[DataKind, RejectReason] = {
    "text": RejectReason.NOT_TEXT,
    "conversations": RejectReason.NOT_CONVERSATIONS,
    "tokens": RejectReason.NOT_TOKENS,
}
_MAX_SKIPPED = 1000  # skipped items kept for a refusal
_MIN_READ = 100  # records; with fewer, the share of rejected ones means little


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
        self._lines = LineNumbers(pulse)

    def held_out(self) -> Window:
        """The window of held-out rows.

        Raises:
            DataRefused: as for `run`, or an epoch has fewer rows.
        """
        windows: list[Window] = []

        def take(window: Window) -> None:
            windows.append(window)
            raise _EnoughError

        with contextlib.suppress(_EnoughError):
            self._run(StreamCursor(HELD_OUT), self.spec.held_out, {}, take)
        if len(windows[0]) < self.spec.held_out:
            raise too_few_rows(self.units.sources, len(windows[0]), self.spec.held_out)
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
        builder = WindowBuilder(self.spec, cursor, self._locate)

        def fill(batch: list[StreamItem]) -> None:
            for item in self._make_examples(batch):
                for row in builder.rows(item):
                    self.pulse.rows += 1
                    builder.finished.append(row)
                    if len(builder.finished) == num_rows:
                        take(builder.window())
                self.pulse.skipped = builder.num_rejected
                self._check_rejected(builder)

        for epoch in itertools.count(cursor.position.epoch):
            # An epoch ends before the next one starts: its rest is a smaller window.
            skipped: list[Skipped] = []
            items = self._epoch(epoch, cursor.position, held_out, skipped)
            batch_records(items, fill, num_characters=_num_characters, pulse=self.pulse)
            builder.end_epoch(epoch)
            if builder.finished:
                take(builder.window())
            elif not builder.last_epoch_rows:
                if held_out:
                    raise too_few_rows(self.units.sources, self.spec.held_out, self.spec.held_out)
                raise self._no_rows(builder.bad, skipped)

    def _no_rows(self, rejected: Sequence[Rejected], skipped: Sequence[Skipped]) -> DataRefused:
        blank = Rejected(self.units.sources[0].name, 1, RejectReason.BLANK)
        why = rejected if rejected or skipped else [blank]
        return no_usable_records(self.units.sources, why, skipped)

    def _make_examples(self, batch: Sequence[StreamItem]) -> Iterator[StreamItem]:
        records = [one.item for one in batch if isinstance(one.item, Record)]
        made = deque(self.maker.make(records))
        self.pulse.beat()
        for one in batch:
            example = made.popleft() if isinstance(one.item, Record) else None
            yield StreamItem(one.origin, one.after, one.item, example)

    def _epoch(
        self, epoch: int, start: StreamPosition, held_out: Mapping[int, int], skipped: list[Skipped]
    ) -> Iterator[StreamItem]:
        """The items of an epoch after a position."""
        first = start.place if epoch == start.epoch else 0
        for place in range(first, len(self.units)):
            skip = start.taken if (epoch, place) == (start.epoch, start.place) else 0
            for one in self._unit(epoch, place, skip, held_out):
                if isinstance(one.item, Skipped) and len(skipped) < _MAX_SKIPPED:
                    skipped.append(one.item)
                yield one

    def _unit(
        self, epoch: int, place: int, skip: int, held_out: Mapping[int, int]
    ) -> Iterator[StreamItem]:
        unit = self.units.at(self.spec.seed, epoch, place)
        num_held_out = held_out.get(unit, 0)
        if num_held_out < 0:
            return
        source, span = self.units[unit]
        self.pulse.progress(place)
        last = None
        options = self.maker.options
        items = read(
            source,
            _ignore,
            self.pulse,
            span=span,
            skip_corrupt=options.skip_corrupt,
            preferred_only=options.preferred_only,
        )
        for num_taken, item in enumerate(items, 1):
            if isinstance(item, Record) and item.kind != self.spec.kind:
                item = Rejected(item.file, item.line, _WRONG_KIND[self.spec.kind], item.kind)
            if last is not None:
                yield last
            last = None
            if num_taken > max(skip, num_held_out):
                origin = RowOrigin(place, unit, num_taken)
                last = StreamItem(origin, StreamPosition(epoch, place, num_taken), item)
        if last is not None:  # after the last item of a unit comes the next unit
            yield replace(last, after=StreamPosition(epoch, place + 1))

    def _locate(self, rejected: Rejected, unit: int) -> Rejected:
        return self._lines.in_file(rejected, *self.units[unit])

    def _check_rejected(self, builder: "WindowBuilder") -> None:
        most = self.spec.max_rejected * builder.read
        if builder.bad and builder.read >= _MIN_READ and builder.num_bad > most:
            bad = [one for one in builder.bad if one.reason not in LEFT_OUT]
            if bad:
                raise too_many_rejected(bad, builder.num_bad, builder.read, self.spec.max_rejected)


class _EnoughError(Exception):
    """The requested window is complete."""


def _num_characters(one: StreamItem) -> int:
    return sum(map(len, one.item.texts)) if isinstance(one.item, Record) else 0


def _ignore(_: bytes) -> None:
    pass
