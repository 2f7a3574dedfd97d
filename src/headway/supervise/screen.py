"""Screen protocol: what a supervisor reports to a terminal view."""

from typing import TYPE_CHECKING, Protocol

from headway.base.errors import Refusal
from headway.base.events import LogEntry
from headway.supervise.progress import Status

if TYPE_CHECKING:
    from headway.runs.plan import Plan
    from headway.runs.receipt import Receipt


class Screen(Protocol):
    """What people or programs see of a run. No method raises when the viewer is gone."""

    @property
    def max_silence(self) -> float:
        """The longest time so far without anything new on the screen, seconds."""
        ...

    def say(self, line: str) -> None:
        """Print a line that stays."""
        ...

    def status(self, status: Status) -> None:
        """Show the status; called many times a second, it decides what to draw."""
        ...

    def plan(self, plan: "Plan") -> None:
        """Show what was decided."""
        ...

    def event(self, entry: LogEntry) -> None:
        """Take an event; those worth a line get one."""
        ...

    def refusal(self, refusal: Refusal) -> None:
        """Say on standard error why the run ends."""
        ...

    def receipt(self, receipt: "Receipt") -> None:
        """Show the receipt; the last line is its closing line."""
        ...

    def close(self, patience_s: float = 30.0) -> None:
        """Restore the terminal; wait for it, unless it takes nothing for `patience_s` seconds."""
        ...
