"""A flow's rows as the trainer sees them: windows that a reader process makes just ahead of it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headway.base.errors import MachineError, RefusalMessage, Remedy, refusal_from
from headway.base.files import write_whole
from headway.base.process import PULSE_VARIABLE
from headway.base.pulse import PulseReading, read_pulse
from headway.data.batching.rows import Rows, Segment
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.reader_process import IDLE, WindowRequest
from headway.data.stream.spec import load_stream
from headway.data.stream.window import Window, load_window

_AHEAD = 2  # windows that are made ready while one is used
_LOOK_S = 0.02
_PATIENCE_S = 30.0  # without a beat of its pulse a reader is stuck
_TRIES = 3  # readers without a new window between them


class StreamEnded(Exception):  # noqa: N818 - nothing went wrong
    """Nobody wants rows any more."""


class StreamClient(Rows):
    """The rows of a flow, by number.

    Whoever asks for a row whose window is not there yet waits for it. A reader that died or got
    stuck is replaced by another one, which gives the same rows. One thread asks; another one may
    end it meanwhile.

    Args:
        folder: the flow's.
        num_windows: how many the job uses.
        patience_s: how long a reader may be silent.

    Raises:
        OSError: there is no such flow (any more).
    """

    def __init__(self, folder: Path, num_windows: int, patience_s: float = _PATIENCE_S) -> None:
        self.folder = folder
        self.num_windows = num_windows
        self.patience_s = patience_s
        self.num_restarts = 0
        self._shape = load_stream(folder).shape
        self._stands = {} if self._shape.held_out else {0: StreamCursor()}
        self._ready: dict[int, Window] = {}
        self._failed = 0  # readers since the newest window
        self._until = 0  # windows that were wished for
        self._told_s = 0.0
        self._ended = False
        self._one_thread = threading.Lock()
        trainer = os.environ.get(PULSE_VARIABLE)
        self._pulse = Path(trainer).with_name("reader.pulse") if trainer else folder / "pulse"
        self._reader = self._started()
        self._wish(WindowRequest(1))

    def seek(self, stand: StreamCursor) -> None:
        """Go on where a checkpoint stands, whatever was read before it."""
        self._stands[stand.window] = stand
        self._until = stand.window + 1
        self._wish(WindowRequest(self._until, stand))

    def end(self) -> None:
        """Stop reading, for good; what was made stays for the next time.

        Whoever waits for rows, or asks for new ones, gets `StreamEnded`.
        """
        with self._one_thread:
            self._ended = True
            self._reader.kill()
            self._reader.communicate()

    def stand(self, window: int) -> StreamCursor:
        """Where a window begins, once the one before it was used."""
        return self._stands[window]

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row, waited for.

        Raises:
            Refusal: the reader's, when it cannot go on.
            MachineError: readers die one after the other.
            StreamEnded: it was ended.
        """
        if row < self._shape.held_out:
            return self.window(HELD_OUT).segments(row)
        number, place = divmod(row - self._shape.held_out, self._shape.window_rows)
        return self.window(number).segments(place)

    def window(self, number: int, waiting: Callable[[], None] = lambda: None) -> Window:
        """A window, waited for; `waiting` is called again and again meanwhile."""
        found = self._ready.get(number)
        if found:
            return found
        until = min(number + 1 + _AHEAD, self.num_windows) if number > 0 else 1
        if until > self._until:
            self._until = until
            with self._not_ended():
                self._wish(WindowRequest(until))
        while (found := load_window(self.folder, number)) is None:
            with self._not_ended():
                self._look_after_reader(number)
            waiting()
            time.sleep(_LOOK_S)
        self._failed = 0
        self._ready = {n: w for n, w in self._ready.items() if n in (HELD_OUT, number - 1)}
        self._ready[number] = found
        self._stands = {n: s for n, s in self._stands.items() if n >= number - 2}
        self._stands[found.facts.after.window] = found.facts.after
        return found

    def write_rejected(self, window: int, path: Path, before: int) -> None:
        """Write down the records that were found bad while a window was made.

        Args:
            window: one that was used.
            path: rejected.jsonl of the run.
            before: lines that stand there for the windows before; what an attempt that was killed
                wrote behind them is replaced.

        Raises:
            MachineError: the disk does not take it.
        """
        windows = [HELD_OUT, window] if window == 0 and self._shape.held_out else [window]
        found = [self._ready.get(n) or load_window(self.folder, n) for n in windows]
        new = [msgspec.json.encode(one) for w in found if w for one in w.facts.rejected]
        there = path.read_bytes().splitlines() if path.exists() else []
        if new or len(there) != before:
            write_whole(path, b"".join(line + b"\n" for line in (*there[:before], *new)))

    def look(self) -> PulseReading | None:
        """What the reader says of itself."""
        return read_pulse(self._pulse)

    # -- the reader --------------------------------------------------------------------------

    @contextmanager
    def _not_ended(self) -> Generator[None]:
        """Have the reader to oneself, so that nobody replaces one that `end` took away."""
        with self._one_thread:
            if self._ended:
                raise StreamEnded
            yield

    def _started(self) -> "subprocess.Popen[bytes]":
        # It dies with the thread that starts it: the trainer's main one, or the one that makes
        # batches, and who would read on after that?
        self._pulse.unlink(missing_ok=True)
        environment = os.environ | {"RAYON_NUM_THREADS": "1"}
        environment.pop(PULSE_VARIABLE, None)
        environment.pop("HF_HUB_OFFLINE", None)  # the trainer's own: the data may be a hub's
        self._began_s = time.monotonic()
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "headway.data.stream.reader_process",
                str(self.folder),
                str(self._pulse),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def _wish(self, wish: WindowRequest) -> None:
        assert self._reader.stdin
        self._told_s = time.monotonic()
        # A dead one hears nothing: whoever waits for it finds out.
        with contextlib.suppress(BrokenPipeError):
            self._reader.stdin.write(msgspec.json.encode(wish) + b"\n")
            self._reader.stdin.flush()

    def _look_after_reader(self, number: int) -> None:
        """Replace a reader that is dead, stuck, or done without this window being readable."""
        code = self._reader.poll()
        now = self.look()
        beat_s = now.updated if now else self._began_s
        if code is not None:
            self._heed(code)
        else:
            idle = now and now.waiting == IDLE and now.waiting_since > self._told_s
            if not idle and time.monotonic() - beat_s <= self.patience_s:
                return
            self._reader.kill()
        self._reader.communicate()
        self._failed += 1
        self.num_restarts += 1
        if self._failed >= _TRIES:
            raise _readers_die(self._failed)
        self._reader = self._started()
        self._wish(WindowRequest(self._until, self._stands.get(number)))

    def _heed(self, code: int) -> None:
        """What a reader said before it ended."""
        assert self._reader.stdout
        words = self._reader.stdout.read()
        if words:
            raise refusal_from(msgspec.json.decode(words, type=RefusalMessage))
        if code > 0:
            raise _readers_die(1)


def _readers_die(times: int) -> MachineError:
    return MachineError(
        "the data cannot be read ahead: its reader process ends",
        have=f"{times} in a row without new rows",
        need="a process that is left to read",
        remedies=(
            Remedy("the same command again", "goes on from the last checkpoint"),
            Remedy("headway doctor", "how much memory there is"),
        ),
    )
