"""Log facts: what a receipt takes from the run's log, and what verify finds there again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.events import (
    LogEntry,
    PhaseEntered,
    Stalled,
    StallEnded,
    StopAsked,
    find_events,
)
from headway.base.pulse import Phase

KINDS = (Stalled, StallEnded, PhaseEntered, StopAsked)  # of events that decide


@dataclass(frozen=True)
class ReceiptStalls:
    """Stalls of all attempts, up to the receipt."""

    number: int
    longest: float  # seconds
    causes: dict[str, int]  # stalls by the last cause that was found
    restarts: int  # that ended a stall


@dataclass(frozen=True)
class _Stall:
    cause: str
    seconds: float
    end: str = ""


@dataclass(frozen=True)
class LogFacts:
    """What an attempt's receipt takes from the log.

    Attributes:
        stalls: of all attempts; None if there were none.
        asked_by: who first asked the attempt to stop, "" if nobody did.
    """

    stalls: ReceiptStalls | None
    asked_by: str

    @classmethod
    def of(cls, log: Sequence[LogEntry], attempt: int) -> "LogFacts":
        """The facts in a log.

        Args:
            log: of the run, at least its entries of `KINDS`.
            attempt: that writes the receipt. What was logged since it began to does not count.
        """
        return cls(_stalls(log, attempt), _asked_by(log, attempt))

    @classmethod
    def read(cls, path: Path, attempt: int) -> "LogFacts":
        """The facts in a log's file, without parsing its steps."""
        return cls.of(find_events(path, KINDS), attempt)


def _stalls(log: Sequence[LogEntry], attempt: int) -> ReceiptStalls | None:
    stalls: dict[int, _Stall] = {}
    for entry in log:
        match entry.event:
            case PhaseEntered(Phase.WRITING_RECEIPT) if entry.attempt == attempt:
                break
            case Stalled(number, cause=cause, seconds=silent_s):
                stalls[number] = _Stall(cause, silent_s)
            case StallEnded(number, cause, lasted_s, end):
                stalls[number] = _Stall(cause, lasted_s, end)
            case _:
                pass
    if not stalls:
        return None
    return ReceiptStalls(
        number=len(stalls),
        longest=max(one.seconds for one in stalls.values()),
        causes=dict(sorted(Counter(one.cause for one in stalls.values()).items())),
        restarts=sum(one.end == "restart" for one in stalls.values()),
    )


def _asked_by(log: Sequence[LogEntry], attempt: int) -> str:
    asked = (one.event for one in log if one.attempt == attempt)
    return next((event.by for event in asked if isinstance(event, StopAsked)), "")
