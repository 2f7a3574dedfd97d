"""Rows of a stream by number, from windows that a reader process makes."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from headway.base.errors import BrokenContract, Cause, Remedy
from headway.base.files import write_whole
from headway.base.units import plural
from headway.data.batching.rows import Rows, Segment
from headway.data.order import Numbers
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.spec import load_stream
from headway.data.stream.window import RowOrigin, Window, load_window

_KEPT_WINDOWS, _KEPT_CURSORS = 2, 64  # the batches made ahead may be several windows ahead
_POLL_S = 0.02


class StreamEnded(Exception):  # noqa: N818 - nothing went wrong
    """No more rows are wanted."""


class StreamRows(Rows):
    """The rows of a stream by their identities, and which of them make which step.

    A `RowOrder` as well as `Rows`: which rows there are is known when their window has been made.
    A row whose window is not on disk yet is waited for: the reader of another worker, the root,
    makes it. One thread reads rows; another may call `end` meanwhile.

    Args:
        folder: the stream's.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spec = load_stream(folder).spec
        self._cursors = {} if self._spec.held_out else {0: StreamCursor()}
        self._ready: dict[int, Window] = {}
        self._places: dict[int, tuple[int, int]] = {}  # window and place of each row that is ready
        self._next_window = 0
        self._last_origin: RowOrigin | None = None  # of the last row before the next window
        self._ended = False

    def seek(self, cursor: StreamCursor) -> None:
        """Continue from a checkpoint's cursor, regardless of what was read before."""
        self._cursors[cursor.window] = cursor

    def end(self) -> None:
        """Want no more rows: a thread that waits for some gets `StreamEnded`."""
        self._ended = True

    def await_first(self, on_wait: Callable[[], None] = lambda: None) -> None:
        """Wait for the held-out rows and those of the first window, which every attempt evaluates.

        Raises:
            As for `window`.
        """
        if self._spec.held_out:
            self.window(HELD_OUT, on_wait)
        self.window(0, on_wait)

    def rows(self, step: int) -> tuple[int, Numbers]:
        """The epoch and the identities of the rows of a step (from 1); waits for their window.

        Raises:
            As for `window`.
        """
        window = self.window(self._window_of(step))
        order = window.order(self._spec.seed, self._spec.batch_size)
        places = order.places(step - 1 - window.facts.before.steps)
        return window.facts.epoch, window.identities_R[places]

    def held_out(self) -> Numbers:
        """The identities of the rows that are never trained."""
        if not self._spec.held_out:
            return np.arange(0)
        return self.window(HELD_OUT).identities_R

    def cursors(self, step: int) -> tuple[StreamCursor, StreamCursor]:
        """The cursors before and after the window of a step whose batch has been made."""
        number = self._window_of(step)
        return self._cursors[number], self._cursors[number + 1]

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row that `rows` or `held_out` gave."""
        window, place = self._places[row]
        return self._ready[window].segments(place)

    def _window_of(self, step: int) -> int:
        """The window of a step; waits for the ones before it."""
        begun = (n for n, cursor in self._cursors.items() if n >= 0 and cursor.steps < step)
        number = max(begun, default=0)
        while self._cursor_after(number).steps < step:
            number += 1
        return number

    def _cursor_after(self, number: int) -> StreamCursor:
        return self._cursors.get(number + 1) or self.window(number).facts.after

    def window(self, number: int, on_wait: Callable[[], None] = lambda: None) -> Window:
        """A window; waits for it and calls `on_wait` repeatedly meanwhile.

        Raises:
            BrokenContract: the window has rows that were there before.
            StreamEnded: `end` was called.
            Refusal: this worker has the reader, and it cannot continue.
        """
        window = self._ready.get(number)
        if window:
            return window
        self._ask_for(number)
        while (window := load_window(self.folder, number)) is None:
            self._look_after(number)
            on_wait()
            time.sleep(_POLL_S)
        self._take_note()
        self._check_repeats(number, window)
        kept = {n: w for n, w in self._ready.items() if n == HELD_OUT or n > number - _KEPT_WINDOWS}
        self._ready = kept | {number: window}
        self._places = {
            row: (n, place)
            for n, w in self._ready.items()
            for place, row in enumerate(w.identities_R.tolist())
        }
        recent = {n: c for n, c in self._cursors.items() if n >= number - _KEPT_CURSORS}
        new = {number: window.facts.before, number + 1: window.facts.after}
        self._cursors = recent | new  # assigned whole: another thread reads it
        return window

    def _ask_for(self, number: int) -> None:
        """Nothing: the worker with the reader needs the same windows and asks for them."""

    def _look_after(self, number: int) -> None:
        """While a window is waited for: look after its reader, which is the root's."""
        del number
        if self._ended:
            raise StreamEnded

    def _take_note(self) -> None:
        """Take note of a window that was waited for."""

    def _check_repeats(self, number: int, window: Window) -> None:
        """Refuse rows that do not follow those before them, or that come a second time.

        Raises:
            BrokenContract: a row does not begin after the one before it.
        """
        facts, known = window.facts, self._cursors.get(number, window.facts.before)
        is_next = (known.rows, known.row_sum) == (facts.before.rows, facts.before.row_sum)
        is_in_middle = number == self._next_window and facts.before.epoch_rows > 0
        if not is_next or window.repeats(self._last_origin if is_in_middle else None):
            raise BrokenContract(
                "rows of the data arrived out of order or twice; they were not trained",
                cause=Cause.CONTRACT_BROKEN,
                have=f"epoch {facts.epoch + 1}, after {plural(facts.before.epoch_rows, 'row')}",
                need="each row once per epoch",
                remedies=(Remedy("--fresh", "reads the data from its start"),),
            )
        self._next_window, self._last_origin = number + 1, window.last_origin()

    def write_rejected(self, window: int, path: Path, before: int) -> None:
        """Append the records that were rejected while a window was made.

        Args:
            window: a window that was used.
            path: rejected.jsonl of the run.
            before: lines in it for earlier windows. Any further lines are from an attempt that was
                killed, and are replaced.

        Raises:
            MachineError: the file cannot be written.
        """
        numbers = [HELD_OUT, window] if window == 0 and self._spec.held_out else [window]
        windows = [self._ready.get(n) or load_window(self.folder, n) for n in numbers]
        new = [msgspec.json.encode(one) for w in windows if w for one in w.facts.rejected]
        lines = path.read_bytes().splitlines() if path.exists() else []
        if new or len(lines) != before:
            write_whole(path, b"".join(line + b"\n" for line in (*lines[:before], *new)))
