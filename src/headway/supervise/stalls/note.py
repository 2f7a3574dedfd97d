"""Stall note: why a job shows nothing new, kept in its live folder for anyone who looks."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import Finding
from headway.base.files import write_lightly
from headway.diagnose.diagnosis import StallCause

_NAME = "stall.json"


@dataclass(frozen=True)
class StallNote:
    """Why a job shows nothing new.

    Attributes:
        cause: for code.
        finding: for people.
        is_stall: whether something has to be done; a silence that is over by itself is none.
        role: the process that is to blame, as people call it.
        since: CLOCK_MONOTONIC when the silence began.
        then: what the supervisor does about it.
        file: in the run's folder, with all that was seen; "" for none.
    """

    cause: StallCause
    finding: Finding
    is_stall: bool
    role: str
    since: float
    then: str = ""
    file: str = ""

    def status(self, now_s: float) -> "StallStatus":
        """What a person reads at `now_s`."""
        return StallStatus(
            cause=str(self.cause),
            what=self.finding.what,
            have=self.finding.have,
            need=self.finding.need,
            tries=tuple(remedy.do for remedy in self.finding.remedies),
            is_stall=self.is_stall,
            role=self.role,
            since_s=max(now_s - self.since, 0.0),
            then=self.then,
            file=self.file,
        )

    def publish(self, live: Path) -> None:
        """Write it into a job's live folder."""
        write_lightly(live / _NAME, msgspec.json.encode(self))


@dataclass(frozen=True)
class StallStatus:
    """Why a job shows nothing new, and since when."""

    cause: str
    what: str
    have: str
    need: str
    tries: tuple[str, ...]  # what to type or do
    is_stall: bool  # whether something has to be done; a silence that is over by itself is none
    role: str  # the process that is to blame
    since_s: float
    then: str  # what the supervisor does about it
    file: str  # in the run's folder, with all that was seen


def read_note(live: Path) -> StallNote | None:
    """The note in a live folder; None while the job makes progress."""
    try:
        return msgspec.json.decode((live / _NAME).read_bytes(), type=StallNote)
    except (OSError, msgspec.MsgspecError):
        return None


def remove_note(live: Path) -> None:
    """Take it back: the job makes progress."""
    (live / _NAME).unlink(missing_ok=True)
