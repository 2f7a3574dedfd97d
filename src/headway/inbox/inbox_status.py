"""Inbox status: what is trained, what waits, what was done, and where the model stands."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from headway.base.errors import UsageError
from headway.base.lock import Owner, is_held, owner_of
from headway.inbox.arriving.arrivals import SeenFile, Waiting, names_to_probe, sort_out, watch
from headway.inbox.arriving.listing import list_inbox, probe
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.inbox_job import (
    InboxJob,
    JobState,
    load_jobs,
    newest_done,
    newest_promoted,
    open_job,
)
from headway.inbox.notices import read_activity
from headway.inbox.recall.still_known import StillKnown, load_still_known
from headway.supervise.live.live_jobs import find_status
from headway.supervise.progress import Status
from headway.ui.text_layout import printable

SCHEMA = "headway.inbox_status/1"
_LONG_AGO_S = 3600.0  # before now: a listing that is looked at only once counts as settled

InboxState = Literal["not started", "stopped", "idle", "training", "paused", "waiting"]


@dataclass(frozen=True)
class WaitingFile:
    """A file in the inbox, in the order in which files are taken."""

    name: str
    bytes: int
    why: str  # it is not taken yet; "" if it can be


@dataclass(frozen=True)
class InboxStatus:
    """The state of an inbox. Ages in seconds."""

    schema: str
    folder: str
    state: InboxState
    since_s: float | None  # in this state, as far as known
    why: str  # nothing is trained; "" while something is
    pid: int  # of the daemon; 0 if there is none
    training: str  # the file that is claimed, "" for none
    run: Status | None  # of that file
    waiting: tuple[WaitingFile, ...]
    counts: dict[str, int]  # of jobs, by state
    last: InboxJob | None  # the job that ended last
    global_step: int
    checkpoint: str  # of the current model; "" before the first file is done
    last_file_s: float | None  # since a file ended
    still_known: StillKnown | None = None  # of all files, after the newest that was measured
    held_back: str = ""  # why current_model is not the model after that file


def inbox_status(inbox: InboxFolder) -> InboxStatus:
    """The status of an inbox. Nothing is changed.

    Raises:
        UsageError: a record cannot be read.
    """
    jobs = load_jobs(inbox.jobs)
    owner = owner_of(inbox.lock)
    owner = owner if owner and is_held(inbox.lock) else None
    activity = read_activity(inbox.daemon)
    job, head, newest = open_job(jobs), newest_promoted(jobs), newest_done(jobs)
    ended = sorted((one for one in jobs if one.ended_at), key=lambda one: one.ended_at)
    state, why = _state(inbox, owner, activity.state.value if activity else "")
    if owner and activity:
        why = "" if state == "training" else activity.why
    learned = head.learned if head else None
    return InboxStatus(
        schema=SCHEMA,
        folder=str(inbox.path),
        state=state,
        since_s=_age_s(activity.since) if activity and owner else None,
        why=why,
        pid=owner.pid if owner else 0,
        training=printable(job.name) if job else "",
        run=run_of(inbox, job),
        waiting=_waiting(inbox),
        counts=dict(Counter(one.state.value for one in jobs if one.state is not JobState.CLAIMED)),
        last=ended[-1] if ended else None,
        global_step=learned.last_step if learned else 0,
        checkpoint=str(inbox.runs / head.run / learned.checkpoint) if head and learned else "",
        last_file_s=_age_s(ended[-1].ended_at) if ended else None,
        still_known=_still_known(inbox, jobs),
        held_back=newest.held_back if newest else "",
    )


def _still_known(inbox: InboxFolder, jobs: Sequence[InboxJob]) -> StillKnown | None:
    """The newest table; after the newest file it may not be measured yet."""
    done = [job for job in jobs if job.state is JobState.DONE]
    found = (load_still_known(inbox.runs / job.run) for job in reversed(done[-2:]))
    return next(filter(None, found), None)


def _state(inbox: InboxFolder, owner: Owner | None, noted: str) -> tuple[InboxState, str]:
    if owner is None:
        if not inbox.is_inbox:
            return "not started", "headway inbox start turns it into an inbox"
        return "stopped", "no daemon is running; headway inbox start continues"
    match noted:
        case "training" | "paused" | "waiting":
            return noted, ""
        case _:
            return "idle", ""


def run_of(inbox: InboxFolder, job: InboxJob | None) -> Status | None:
    """What the training of a job does; None before it has started."""
    if job is None:
        return None
    try:
        return find_status(job.run, inbox.runs)
    except UsageError:  # it was claimed, and nothing has started yet
        return None


def _waiting(inbox: InboxFolder) -> tuple[WaitingFile, ...]:
    """Files in the order in which they would be taken now."""
    if not inbox.path.is_dir():
        return ()
    now_s = time.monotonic()
    before: dict[str, SeenFile] = watch({}, list_inbox(inbox.path), now_s - _LONG_AGO_S)
    probed = {
        name: probe(inbox.path / name, before[name].listed.kind)
        for name in names_to_probe(before, now_s)
    }
    found = sort_out(before, probed, now_s)
    refused = (Waiting(one, f"{one.kind.value} is refused") for one in found.refused)
    all_of_them = (*(Waiting(one, "") for one in found.ready), *found.waiting, *refused)
    return tuple(
        WaitingFile(printable(one.listed.name), one.listed.bytes, one.why) for one in all_of_them
    )


def _age_s(at: str) -> float | None:
    try:
        return max(time.time() - datetime.fromisoformat(at).timestamp(), 0.0)
    except ValueError:
        return None
