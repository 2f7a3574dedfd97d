"""Hours of a day in which an inbox trains."""

import re
from dataclasses import dataclass
from datetime import datetime, time

_DAY = 24 * 60


@dataclass(frozen=True)
class Hours:
    """A part of every day, by the clock on the wall; it may reach over midnight.

    Attributes:
        begin: minute of the day, included.
        end: minute of the day, not included.
    """

    begin: int
    end: int

    def __contains__(self, at: time) -> bool:
        minute = at.hour * 60 + at.minute
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def __str__(self) -> str:
        begin, end = (f"{one // 60:02}:{one % 60:02}" for one in (self.begin, self.end))
        return f"{begin}-{end}"


def local_time() -> time:
    """The time of the day here, as people read it from the wall."""
    return datetime.now().time()


def read_hours(text: str) -> Hours:
    """Hours from '22:00-07:00' or '9-17'.

    Raises:
        ValueError: the text is something else, or a part of no length.
    """
    found = re.fullmatch(r"\s*(\d{1,2})(?::(\d\d))?\s*(?:-|to)\s*(\d{1,2})(?::(\d\d))?\s*", text)
    if not found:
        raise ValueError("hours such as 22:00-07:00")
    begin, end = (int(found[at]) * 60 + int(found[at + 1] or 0) for at in (1, 3))
    if any(int(found[at] or 0) > 59 for at in (2, 4)) or max(begin, end) > _DAY:
        raise ValueError("hours such as 22:00-07:00")
    begin, end = begin % _DAY, end % _DAY
    if begin == end:
        raise ValueError("two different hours; leave it out to train at any time")
    return Hours(begin, end)
