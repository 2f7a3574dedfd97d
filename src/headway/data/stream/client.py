"""Stream client: rows of a stream, with the reader process that prefetches their windows."""

import os
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from headway.base.errors import Cause, MachineError, Remedy, refusal_from
from headway.base.process import PULSE_VARIABLE, ChildProcess, RestartPolicy
from headway.base.pulse import PulseReading, ReaderWait, read_pulse
from headway.data.stream.cursor import StreamCursor
from headway.data.stream.reader_process import WindowRequest
from headway.data.stream.stream_rows import StreamEnded, StreamRows
from headway.data.stream.window import load_window

_NUM_AHEAD = 2  # windows prepared while one is used
_MAX_SILENCE_S = 30.0  # a reader whose pulse is older is stuck
_MAX_START_S = 600.0  # from its start to its first beat
_RESTARTS = RestartPolicy(max_restarts=2)  # without a new window


class StreamClient(StreamRows):
    """Rows of a stream with the reader process that makes their windows.

    A reader that dies or gets stuck is restarted and makes the same rows. There is one for all
    workers of a machine: the others wait for the windows that it writes.

    Args:
        folder: the stream's.
        num_steps: steps of the job.
        max_silence_s: how long the reader's pulse may be silent after its first beat.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, num_steps: int, max_silence_s: float = _MAX_SILENCE_S) -> None:
        super().__init__(folder)
        self.num_steps = num_steps
        self.max_silence_s = max_silence_s
        self._until = 0  # windows requested so far
        self._requested_s = 0.0
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
        super().seek(cursor)
        self._until = cursor.window + 1
        self._request(WindowRequest(self._until, self.num_steps, cursor))

    def end(self) -> None:
        """Stop reading for good. Windows on disk stay for the next attempt.

        A thread that waits for rows, or asks for new ones, gets `StreamEnded`.
        """
        with self._lock:
            super().end()
            self._reader.end()

    def _ask_for(self, number: int) -> None:
        until = number + 1 + _NUM_AHEAD if number > 0 else 1
        if until > self._until:
            self._until = until
            with self._not_ended():
                self._request(WindowRequest(until, self.num_steps))

    def _look_after(self, number: int) -> None:
        with self._not_ended():
            self._check_reader(number)

    def _take_note(self) -> None:
        self._reader.report_progress()

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
        is_running = self._reader.is_running
        if is_running and not self._is_stuck():
            return
        if load_window(self.folder, number):  # it came between the last look and this one
            return
        if not is_running:
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
