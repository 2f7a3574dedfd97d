"""Notices of the daemon: what it says, and what it does now, for whoever asks."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from headway.base.errors import Finding
from headway.base.files import write_lightly
from headway.inbox.jobs.inbox_job import InboxJob
from headway.inbox.jobs.queue import utc_now


class DaemonState(StrEnum):
    """What the daemon does."""

    IDLE = "idle"
    TRAINING = "training"
    PAUSED = "paused"
    WAITING = "waiting"  # until the machine or a service allows it


@dataclass(frozen=True)
class DaemonActivity:
    """What the daemon does, since when and why."""

    state: DaemonState
    since: str  # UTC, ISO 8601
    why: str = ""


class NoticeKind(StrEnum):
    """What the daemon has to say."""

    FOUND = "found"  # left by an earlier daemon
    LISTENING = "listening"  # for requests over HTTP
    TAKEN = "taken"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    AGAIN = "again"
    COMMAND = "command"  # after a file, which failed
    PAUSED = "paused"
    RESUMED = "resumed"


@dataclass(frozen=True)
class InboxNotice:
    """One line for people, and what it is about."""

    kind: NoticeKind
    text: str
    job: InboxJob | None = None
    finding: Finding | None = None


def write_activity(file: Path, state: DaemonState, why: str) -> None:
    """Note what the daemon does from now on."""
    activity = DaemonActivity(state, utc_now().isoformat(), why)
    write_lightly(file, msgspec.json.encode(activity))


def read_activity(file: Path) -> DaemonActivity | None:
    """What a daemon last noted; None if nothing can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=DaemonActivity)
    except (OSError, msgspec.MsgspecError):
        return None
