"""What a supervisor tells whoever looks at its run."""

from typing import TYPE_CHECKING, Protocol

from headway.base.errors import Refusal
from headway.base.events import LogEntry
from headway.supervise.progress import Status

if TYPE_CHECKING:
    from headway.runs.plan import Plan
    from headway.runs.receipt import Receipt


class Screen(Protocol):
    """What people or programs see of a run. No method raises when nobody looks any more."""

    @property
    def max_silence(self) -> float:
        """Seconds: the longest time so far without anything new to see."""
        ...

    def say(self, line: str) -> None:
        """A line that stays."""
        ...

    def status(self, status: Status) -> None:
        """How the run stands; called many times a second, it decides itself what to draw."""
        ...

    def plan(self, plan: "Plan") -> None:
        """What was decided."""
        ...

    def event(self, entry: LogEntry) -> None:
        """Something that happened; what is worth a line gets one."""
        ...

    def refusal(self, refusal: Refusal) -> None:
        """Why it goes no further, to standard error."""
        ...

    def receipt(self, receipt: "Receipt") -> None:
        """What came of it; the last line is the receipt's own."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...
