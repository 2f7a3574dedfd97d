"""A stream written in whole lines, and how long there was nothing new on it."""

import os
from collections.abc import Callable, Mapping
from typing import TextIO

Clock = Callable[[], float]  # seconds, monotonic
NARROWEST, WIDEST = 40, 120

_PLAIN = str.maketrans(
    {"·": "-", "…": "...", "↵": "/", "±": "+-", "«": "<<", "»": ">>", "━": "=", "─": "-"}
)


class Silence:
    """How long there was nothing new to see."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._longest_s = 0.0
        self._since = clock()

    @property
    def longest_s(self) -> float:
        """The longest so far, the one that lasts included."""
        return max(self._longest_s, self.age_s())

    def age_s(self) -> float:
        """Since the last change that a person could see."""
        return self.clock() - self._since

    def broken(self) -> None:
        """Something new is to be seen."""
        self._longest_s = self.longest_s
        self._since = self.clock()


class Lines:
    """A stream written in whole lines, each at once.

    A reader that has gone away (a closed pipe, a full disk under a log) ends the writing, never
    the run. All streams of a screen share one `Silence`.
    """

    def __init__(self, stream: TextIO, silence: Silence) -> None:
        self.stream = stream
        self.silence = silence
        self.gone = False

    def write(self, *lines: str) -> None:
        """Write lines and flush."""
        if self.gone or not lines:
            return
        try:
            for line in lines:
                self.stream.write(encodable(line, self.stream.encoding) + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: it was closed
            self.gone = True
        self.silence.broken()


def columns(stream: TextIO, environ: Mapping[str, str]) -> int:
    """How wide the stream's terminal is: COLUMNS, else the terminal's word, else 80."""
    if environ.get("COLUMNS", "").isdecimal() and int(environ["COLUMNS"]):
        return int(environ["COLUMNS"])
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def text_width(columns: int) -> int:
    """The width to set text in: whatever the terminal's, it stays readable."""
    return min(max(columns, NARROWEST), WIDEST)


def encodable(text: str, encoding: str | None) -> str:
    """The text as far as the encoding can say it, our own marks by the nearest it has."""
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        known = encoding or "utf-8"
        return text.translate(_PLAIN).encode(known, "replace").decode(known)
    return text
