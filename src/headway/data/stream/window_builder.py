"""Window builder: examples of a stream to rows, with exact cursor and counts at each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from headway.data.batching.rows import Segment
from headway.data.examples.examples import Example
from headway.data.formats.records import LEFT_OUT, Record, Rejected, RejectReason, Skipped
from headway.data.order import MASK_64_BIT, num_window_steps, row_hash, row_identities
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.spec import StreamSpec
from headway.data.stream.window import RowOrigin, Window, WindowFacts, make_window, origins_array


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One item of a unit, where it lies, the position after it, and its example."""

    origin: RowOrigin
    after: StreamPosition
    item: Record | Rejected | Skipped
    made: Example | Rejected | None = None


class WindowBuilder:
    """Builds one window after another.

    Args:
        spec: how rows are cut.
        cursor: where the first window begins.
        locate: finds the line of a rejected record in its file.

    Attributes:
        read: records read so far.
        rejected: records rejected so far, by reason.
        truncated: conversations cut so far.
        finished: rows that are in no window yet.
        bad: records rejected since the last window.
        last_epoch_rows: rows of the epoch that ended last.
    """

    def __init__(
        self, spec: StreamSpec, cursor: StreamCursor, locate: Callable[[Rejected, int], Rejected]
    ) -> None:
        self.spec = spec
        self.locate = locate
        self.read = cursor.read
        self.rejected = dict(cursor.rejected)
        self.truncated = cursor.truncated
        self.finished: list[list[Segment]] = []
        self.bad: list[Rejected] = []
        self.last_epoch_rows = 0  # of the epoch that ended last
        self._before = cursor
        self._first_epoch_rows = cursor.first_epoch_rows
        self._has_short = False
        self._origins: list[RowOrigin] = []  # of the finished rows
        self._units: dict[int, int] = {}
        self._position = cursor.position
        self._offset = cursor.position.offset
        self._row: list[Segment] = []
        self._row_origin: RowOrigin | None = None  # of the row that is being filled
        self._room = spec.max_length

    @property
    def is_held_out(self) -> bool:
        """Whether the rows are the held-out ones."""
        return self._before.window == HELD_OUT

    @property
    def num_rejected(self) -> int:
        """Records rejected so far."""
        return sum(self.rejected.values())

    @property
    def num_bad(self) -> int:
        """Records rejected so far for what they hold, not because they were to be left out."""
        return sum(num for reason, num in self.rejected.items() if reason not in LEFT_OUT)

    def rows(self, one: StreamItem) -> Iterator[list[Segment]]:
        """The rows that an item completes. The position is right at each of them."""
        before = self._position
        if isinstance(one.item, Skipped):
            pass
        elif isinstance(one.made, Example):
            self.read += not self._offset
            if self.spec.kind == "text":
                yield from self._cut(one.made, one, before)
            elif row := self._conversation(one.made, one.origin.unit):
                self._advance(one)
                self._origins.append(one.origin)
                yield [row]
        else:
            self.read += 1
            rejected = one.item if isinstance(one.item, Rejected) else one.made
            assert isinstance(rejected, Rejected)
            self._reject(rejected, one.origin.unit)
        self._advance(one)

    def end_epoch(self, epoch: int) -> None:
        """Finish the epoch's rows: what is left of its text is a short row."""
        if self._row:
            self._finish_row()
            self.finished.append(self._start_row())
            self._has_short = True
        rows = self._before.epoch_rows + len(self.finished)
        if epoch == 0 and not self.is_held_out:
            self._first_epoch_rows = rows
        self._position, self.last_epoch_rows = StreamPosition(epoch + 1), rows
        if not self.finished:  # the window before this one ended with the epoch
            self._before = replace(
                self._before,
                position=self._position,
                epoch_rows=0,
                first_epoch_rows=self._first_epoch_rows,
            )

    def _advance(self, one: StreamItem) -> None:
        self._position = one.after
        self._offset = 0
        if self.is_held_out:
            self._units[one.origin.unit] = one.after.taken or -1

    def _cut(
        self, example: Example, one: StreamItem, before: StreamPosition
    ) -> Iterator[list[Segment]]:
        """Fill the current row with a text, and start new rows as needed."""
        num_targets = len(example.ids) - 1
        at = self._offset
        while at < num_targets:
            end = min(at + self._room, num_targets)
            if not self._row:
                self._row_origin = replace(one.origin, offset=at)
            self._row.append(Segment(example.ids[at : end + 1], None))
            self._room -= end - at
            at = end
            if not self._room:
                self._finish_row()
                if at == num_targets:
                    self._advance(one)
                else:
                    self._position = StreamPosition(before.epoch, before.place, before.taken, at)
                    if self.is_held_out:  # the rest of this text is not trained either
                        self._advance(one)
                yield self._start_row()

    def _finish_row(self) -> None:
        assert self._row_origin is not None, "a row has a segment"
        self._origins.append(self._row_origin)

    def _start_row(self) -> list[Segment]:
        """Start a new row and return the finished one."""
        row, self._row, self._room = self._row, [], self.spec.max_length
        return row

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
        before, epoch = self._before, self._before.position.epoch
        num_rows, batch_size = len(self.finished), self.spec.batch_size
        after = replace(
            before,
            window=before.window + 1,
            position=self._position,
            read=self.read,
            rejected=dict(self.rejected),
            truncated=self.truncated,
        )
        if not self.is_held_out:
            identities_R = row_identities(epoch, origins_array(self._origins)[:, 1:])
            is_same_epoch = self._position.epoch == epoch
            after = replace(
                after,
                steps=before.steps + num_window_steps(num_rows - self._has_short, batch_size),
                rows=before.rows + num_rows,
                row_sum=(before.row_sum + row_hash(identities_R, epoch)) & MASK_64_BIT,
                epoch_rows=before.epoch_rows + num_rows if is_same_epoch else 0,
                first_epoch_rows=self._first_epoch_rows,
            )
        facts = WindowFacts(before, after, self._has_short, tuple(self.bad), dict(self._units))
        window = make_window(self.finished, self._origins, facts, self.spec.dtype)
        self.finished, self.bad, self._origins, self._has_short = [], [], [], False
        self._before = after
        return window
