"""Rhythm of a command: how long it usually takes until it says something new."""

import statistics
from collections import deque
from dataclasses import dataclass, field

UNLEARNED_S = 60.0  # patience before there is a rhythm
FLOOR_S, CAP_S = 20.0, 600.0
_USUAL_TIMES, _LONGEST_TIMES = 10.0, 3.0
_LEARNED = 5  # intervals from which there is a rhythm
_SHORTEST_S = 0.05  # lines that are printed together are one piece of news


@dataclass
class Rhythm:
    """Learns from the times at which a command said something new.

    Args:
        stall_after_s: the patience that a person asked for; 0: learned.
    """

    stall_after_s: float = 0.0
    _intervals: deque[float] = field(default_factory=lambda: deque[float](maxlen=100))
    _last_s: float | None = None

    def news(self, at_s: float) -> None:
        """Take the time of the last news; the same one twice is one."""
        if self._last_s is not None and at_s - self._last_s > _SHORTEST_S:
            self._intervals.append(at_s - self._last_s)
        self._last_s = max(at_s, self._last_s or 0.0)

    def skip_to(self, at_s: float) -> None:
        """Take the time of news that came after a stall, which nothing is learned from."""
        self._last_s = at_s

    def restart_clock(self, gap_s: float) -> None:
        """Leave out a time in which everything was stopped."""
        if self._last_s is not None:
            self._last_s += gap_s

    @property
    def usual_s(self) -> float | None:
        """The usual interval between two pieces of news; None before it is known."""
        return statistics.median(self._intervals) if len(self._intervals) >= _LEARNED else None

    @property
    def longest_s(self) -> float:
        """The longest interval of late."""
        return max(self._intervals, default=0.0)

    @property
    def patience_s(self) -> float:
        """How long a silence may last before it is looked into."""
        if self.stall_after_s:
            return self.stall_after_s
        if self.usual_s is None:
            return max(UNLEARNED_S, min(_LONGEST_TIMES * self.longest_s, CAP_S))
        learned = max(_USUAL_TIMES * self.usual_s, _LONGEST_TIMES * self.longest_s)
        return min(max(learned, FLOOR_S), CAP_S)
