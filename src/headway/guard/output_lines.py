"""Lines of a command's output: counted, and read for progress as far as that costs little.

Bars are drawn again and again after a carriage return, so a line ends with either. A command that
prints more lines than can be read is read in samples: what was not read is counted.
"""

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headway.guard.facts import ProgressRecord
from headway.guard.output_progress import plain, read_progress

MOST_RECORDS = 20_000  # of which the first and the last half are kept
KEPT_LINES = 200  # at the beginning, and at the end
_BURST, _PER_S = 2_000, 300  # lines that are read, at once and per second
_BAR_S = 1.0  # between two records of bars that are kept
_COMPARED = 400  # characters of a line that make it news
_USUAL_BYTES = 256  # of a line, at most
_LONGEST = 8_192  # bytes of a line that are kept
_END = re.compile(rb"\r\n|\n|\r")
# What changes in a line while nothing happens: times, rates, spinners, percent of a processor.
_TIMES = re.compile(
    r"\d+:\d\d(?::\d\d)?(?:[.,]\d+)?|\d{4}-\d\d-\d\d|[\d.?]+\s*(?:s|ms|sec|seconds|min|it/s|s/it|"
    r"\w+/s|s/\w+)\b|[⠀-⣿|/\\-]",
)


@dataclass
class _Budget:
    """Lines that may be read: a burst, then so many per second."""

    clock: Callable[[], float]
    left: float = _BURST
    at_s: float = 0.0

    def take(self, wanted: int) -> int:
        now_s = self.clock()
        self.left = min(self.left + (now_s - self.at_s) * _PER_S, _BURST)
        self.at_s = now_s
        taken = min(wanted, int(self.left))
        self.left -= taken
        return taken


@dataclass
class OutputLines:
    """What a command printed, from its start to its end.

    Args:
        clock: seconds, monotonic.
        on_record: called with each record of progress.

    Attributes:
        num_lines: that were printed.
        num_unread: of those, that were not looked at.
        last_output_s: when the last byte came, by the clock.
        last_news_s: when it said something that it had not just said.
        records, records_left_out: of progress, as in `GuardFacts`.
    """

    clock: Callable[[], float] = time.monotonic
    on_record: Callable[[ProgressRecord], None] | None = None
    began_s: float = 0.0
    num_lines: int = 0
    num_unread: int = 0
    last_output_s: float = 0.0
    last_news_s: float = 0.0
    records_left_out: int = 0
    _first: list[ProgressRecord] = field(default_factory=list[ProgressRecord])
    _last: deque[ProgressRecord] = field(
        default_factory=lambda: deque[ProgressRecord](maxlen=MOST_RECORDS // 2)
    )
    _head: list[str] = field(default_factory=list[str])
    _tail: deque[str] = field(default_factory=lambda: deque[str](maxlen=KEPT_LINES))
    _rest: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _after_return: set[int] = field(default_factory=set[int])
    _recent: deque[str] = field(default_factory=lambda: deque[str](maxlen=32))

    def __post_init__(self) -> None:
        self.began_s = self.last_output_s = self.last_news_s = self.clock()
        self._bar_at_s = -_BAR_S
        self._budget = _Budget(self.clock, at_s=self.began_s)

    @property
    def records(self) -> tuple[ProgressRecord, ...]:
        """What it said about progress."""
        return (*self._first, *self._last)

    @property
    def head(self) -> tuple[str, ...]:
        """Its first lines."""
        return tuple(self._head)

    @property
    def tail(self) -> tuple[str, ...]:
        """Its last lines, an unfinished one too."""
        rest = [_text(rest) for rest in self._rest.values() if rest]
        return tuple([*self._tail, *rest][-KEPT_LINES:])

    def feed(self, data: bytes, stream: int = 1) -> None:
        """Take what came from a stream, 1 or 2.

        A line counts when it ends; one that does not end, as a bar, is read when it has changed.
        """
        self.last_output_s = self.clock()
        if stream in self._after_return and data.startswith(b"\n"):
            data = data[1:]  # the other half of an end
        self._after_return.discard(stream)
        if data.endswith(b"\r"):
            self._after_return.add(stream)
        whole = self._rest.get(stream, b"") + data
        num = whole.count(b"\n") + whole.count(b"\r") - whole.count(b"\r\n")
        self.num_lines += num
        most = self._budget.take(num + (not whole.endswith((b"\n", b"\r"))))
        if num > most:
            self.num_unread += num - most
            whole = whole[-(most + 1) * _USUAL_BYTES :]  # only these are taken apart
        *lines, rest = _END.split(whole)
        self._rest[stream] = rest[-_LONGEST:]
        if num > most and len(lines) < most:
            self.num_unread += most - len(lines)  # they were longer than usual
        for line in lines[-most:] if most else ():
            self._read(line)
        if rest and most > num:
            self._notice(_text(rest))

    def finish(self) -> None:
        """Read what was left without an end."""
        for rest in self._rest.values():
            if rest:
                self.num_lines += 1
                self._read(rest)
        self._rest.clear()

    def restart_clock(self, gap_s: float) -> None:
        """Leave out a time in which nothing could come, as when all was stopped."""
        self.last_output_s += gap_s
        self.last_news_s += gap_s

    def _read(self, line: bytes) -> None:
        text = _text(line)
        if not text.strip():
            return
        if len(self._head) < KEPT_LINES:
            self._head.append(text)
        else:
            self._tail.append(text)
        self._notice(text)
        record = read_progress(text, self.last_output_s - self.began_s)
        if record is not None:
            self._add(record)

    def _notice(self, text: str) -> None:
        """Whether it is news: the same bar with another time is not."""
        said = _TIMES.sub("", plain(text[:_COMPARED])).strip()
        if said and said not in self._recent:
            self._recent.append(said)
            self.last_news_s = self.last_output_s

    def _add(self, record: ProgressRecord) -> None:
        if self.on_record:
            self.on_record(record)
        if record.is_bar and record.loss is None and record.step != record.total:
            if record.at_s - self._bar_at_s < _BAR_S:
                return  # drawn again: what is kept is enough to tell its speed
            self._bar_at_s = record.at_s
        if len(self._first) < MOST_RECORDS // 2:
            self._first.append(record)
        else:
            self.records_left_out += len(self._last) == MOST_RECORDS // 2
            self._last.append(record)


def _text(line: bytes) -> str:
    return line[:_LONGEST].decode(errors="replace")
