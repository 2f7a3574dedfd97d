"""Line-buffered output streams, and the time since their last output."""

import os
from collections.abc import Callable, Mapping
from typing import TextIO

from headway.base.units import plural
from headway.ui.queued_stream import QueuedStream

Clock = Callable[[], float]  # seconds, monotonic
NARROWEST, WIDEST = 40, 120
PATIENCE_S = 30.0  # at the end, with a reader that takes nothing

_PLAIN = str.maketrans(
    {"·": "-", "…": "...", "↵": "/", "±": "+-", "«": "<<", "»": ">>", "━": "=", "─": "-"}
)


class Silence:
    """The longest time without new output."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._longest_s = 0.0
        self._since = clock()

    @property
    def longest_s(self) -> float:
        """The longest silence so far, including the current one, seconds."""
        return max(self._longest_s, self.age_s())

    def age_s(self) -> float:
        """Seconds since the last visible change."""
        return self.clock() - self._since

    def end(self) -> None:
        """Note that there is new output."""
        self._longest_s = self.longest_s
        self._since = self.clock()


class Lines:
    """A stream written in whole lines, flushed after each write.

    If the reader is gone (a closed pipe) or the disk under a log is full, writing stops and the
    run continues. The streams of a screen share one `Silence`. A queued stream never waits for its
    reader; what it cannot hold is left out, except for last lines.
    """

    def __init__(self, stream: TextIO, silence: Silence) -> None:
        self.stream = stream
        self.silence = silence
        self.gone = False
        self._num_left_out = 0

    @property
    def is_behind(self) -> bool:
        """Whether the reader lags: what is going to be redrawn anyway can be left out."""
        return isinstance(self.stream, QueuedStream) and self.stream.is_behind

    def takes(self, *, last: bool = False) -> bool:
        """Whether to write more; what does not fit is counted, and said with the next line.

        Args:
            last: the reader must get it in any case.
        """
        if isinstance(self.stream, QueuedStream) and self.stream.is_full and not last:
            self._num_left_out += 1
            return False
        return True

    def left_out(self) -> list[str]:
        """A line about what was left out since the last call, if anything was."""
        num, self._num_left_out = self._num_left_out, 0
        return [f"({plural(num, 'line')} left out: nobody read this output)"] if num else []

    def write(self, *lines: str, last: bool = False) -> None:
        """Write lines and flush; nothing once the stream has failed.

        Args:
            lines: without their ends.
            last: the reader must get them, however far behind it is.
        """
        if self.gone or not lines or not self.takes(last=last):
            return
        try:
            for line in (*self.left_out(), *lines):
                self.stream.write(encodable(line, self.stream.encoding) + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.gone = True
        self.silence.end()

    def drain(self, patience_s: float) -> None:
        """Wait for the reader, at most until it took nothing for `patience_s` seconds."""
        if isinstance(self.stream, QueuedStream) and not self.gone:
            self.stream.drain(patience_s)


def columns(stream: TextIO, environ: Mapping[str, str]) -> int:
    """The stream's width: COLUMNS, otherwise the terminal's size, otherwise 80."""
    if environ.get("COLUMNS", "").isdecimal() and int(environ["COLUMNS"]):
        return int(environ["COLUMNS"])
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def text_width(columns: int) -> int:
    """The width to wrap text at, clamped to what is readable."""
    return min(max(columns, NARROWEST), WIDEST)


def encodable(text: str, encoding: str | None) -> str:
    """The text in characters that the encoding has; our own symbols get ASCII substitutes."""
    known = encoding or "utf-8"
    try:
        text.encode(known)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(known, "replace").decode(known)
    return text


def substitute(text: str) -> str:
    """ASCII for text that an encoding lacks: our own symbols have their likeness, others are ?."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()
