"""Stream client: rows by number, from windows that a reader process prefetches."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from headway.base.errors import BrokenContract, Cause, MachineError, Remedy, refusal_from
from headway.base.files import write_whole
from headway.base.process import PULSE_VARIABLE, ChildProcess, RestartPolicy
from headway.base.pulse import PulseReading, read_pulse
from headway.base.units import plural
from headway.data.batching.rows import Rows, Segment
from headway.data.order import Numbers
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.reader_process import ReaderWait, WindowRequest
from headway.data.stream.spec import load_stream
from headway.data.stream.window import RowOrigin, Window, load_window

_NUM_AHEAD = 2  # windows prepared while one is used
_KEPT_WINDOWS, _KEPT_CURSORS = 2, 64  # the batches made ahead may be several windows ahead
_POLL_S = 0.02
_MAX_SILENCE_S = 30.0  # a reader whose pulse is older is stuck
_MAX_START_S = 600.0  # from its start to its first beat
_RESTARTS = RestartPolicy(max_restarts=2)  # without a new window


class StreamEnded(Exception):  # noqa: N818 - nothing went wrong
    """The client was closed."""


class StreamClient(Rows):
    """The rows of a stream by their identities, and which of them make which step.

    A `RowOrder` as well as `Rows`: which rows there are is known when their window has been made.
    A row whose window is not on disk yet is waited for. A reader that dies or gets stuck is
    restarted and makes the same rows. One thread reads rows; another may call `end` meanwhile.

    Args:
        folder: the stream's.
        num_steps: steps of the job.
        max_silence_s: how long the reader's pulse may stand still after its first beat.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, num_steps: int, max_silence_s: float = _MAX_SILENCE_S) -> None:
        self.folder = folder
        self.num_steps = num_steps
        self.max_silence_s = max_silence_s
        self._spec = load_stream(folder).spec
        self._cursors = {} if self._spec.held_out else {0: StreamCursor()}
        self._ready: dict[int, Window] = {}
        self._places: dict[int, tuple[int, int]] = {}  # window and place of each row that is ready
        self._next_window = 0
        self._last_origin: RowOrigin | None = None  # of the last row before the next window
        self._until = 0  # windows requested so far
        self._requested_s = 0.0
        self._ended = False
        self._lock = threading.Lock()
        trainer = os.environ.get(PULSE_VARIABLE)
        self._pulse = Path(trainer).with_name("reader.pulse") if trainer else folder / "pulse"
        self._pulse.unlink(missing_ok=True)
        self._started_s = time.monotonic()
        # The reader dies with the thread that starts it: the trainer's main thread, or the one that
        # makes batches. Without either of them, no rows are needed.
        self._reader = _start_reader(folder, self._pulse)
        self._request(WindowRequest(1, num_steps))

    @property
    def num_restarts(self) -> int:
        """How often the reader was restarted."""
        return self._reader.num_restarts

    def seek(self, cursor: StreamCursor) -> None:
        """Continue from a checkpoint's cursor, regardless of what was read before."""
        self._cursors[cursor.window] = cursor
        self._until = cursor.window + 1
        self._request(WindowRequest(self._until, self.num_steps, cursor))

    def end(self) -> None:
        """Stop reading for good. Windows on disk stay for the next attempt.

        A thread that waits for rows, or asks for new ones, gets `StreamEnded`.
        """
        with self._lock:
            self._ended = True
            self._reader.end()

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
            Refusal: the reader cannot continue.
            MachineError: the reader keeps dying.
            BrokenContract: the window has rows that were there before.
            StreamEnded: `end` was called.
        """
        window = self._ready.get(number)
        if window:
            return window
        until = number + 1 + _NUM_AHEAD if number > 0 else 1
        if until > self._until:
            self._until = until
            with self._not_ended():
                self._request(WindowRequest(until, self.num_steps))
        while (window := load_window(self.folder, number)) is None:
            with self._not_ended():
                self._check_reader(number)
            on_wait()
            time.sleep(_POLL_S)
        self._reader.report_progress()
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

    def reader_pulse(self) -> PulseReading | None:
        """The reader's pulse; None if it has none yet."""
        return read_pulse(self._pulse)

    # -- the reader --------------------------------------------------------------------------

    @contextmanager
    def _not_ended(self) -> Generator[None]:
        """Hold the lock, so that no reader is started after `end`."""
        with self._lock:
            if self._ended:
                raise StreamEnded
            yield

    def _request(self, request: WindowRequest) -> None:
        self._requested_s = time.monotonic()
        self._reader.send(request)  # a dead reader is noticed when a window is waited for

    def _check_reader(self, number: int) -> None:
        """Restart a reader that died, got stuck, or is idle although this window is unreadable."""
        if self._reader.is_running:
            if not self._is_stuck():
                return
        else:
            self._raise_refusal()
        self._reader.end()
        self._pulse.unlink(missing_ok=True)
        self._started_s = time.monotonic()
        if not self._reader.restart():
            raise _reader_keeps_dying(1 + _RESTARTS.max_restarts)
        self._request(WindowRequest(self._until, self.num_steps, self._cursors.get(number)))

    def _is_stuck(self) -> bool:
        """Whether the reader is silent, or idle although it served the last request."""
        pulse = self.reader_pulse()
        if (
            pulse
            and pulse.waiting == ReaderWait.REQUEST
            and self._requested_s < pulse.waiting_since
        ):
            return True
        if pulse is None:  # it imports, which takes as long as the disk does
            return time.monotonic() - self._started_s > _MAX_START_S
        return time.monotonic() - pulse.updated > self.max_silence_s

    def _raise_refusal(self) -> None:
        """Raise what a dead reader reported; return if it was killed."""
        refusal = self._reader.last_refusal()
        if refusal:
            raise refusal_from(refusal)
        if (self._reader.exit_code or 0) > 0:
            raise _reader_keeps_dying(1)


def _start_reader(folder: Path, pulse: Path) -> ChildProcess:
    environment = os.environ | {"RAYON_NUM_THREADS": "1"}
    environment.pop("HF_HUB_OFFLINE", None)  # set for the trainer; the data may be on the hub
    return ChildProcess(
        "headway.data.stream.reader_process",
        [str(folder), str(pulse)],
        environment=environment,
        stdin=subprocess.PIPE,
        own_session=False,
        restarts=_RESTARTS,
    )


def _reader_keeps_dying(times: int) -> MachineError:
    return MachineError(
        "cannot read the data: the reader process keeps ending",
        cause=Cause.PROCESS_KILLED,
        have=f"{times} times without new rows",
        need="a reader process that keeps running",
        remedies=(
            Remedy("the same command again", "continues from the last checkpoint"),
            Remedy("headway doctor", "shows how much memory there is"),
        ),
    )
