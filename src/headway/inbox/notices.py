"""Notices of the daemon: what it says and posts, and what it does now, for whoever asks."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from headway.base.errors import Finding, four_parts
from headway.base.files import write_lightly
from headway.base.network.webhook import Notice, Notifier
from headway.base.units import count, plural
from headway.inbox.folder import RECEIPT, InboxFolder
from headway.inbox.jobs.inbox_job import InboxJob, JobState, Learned
from headway.inbox.jobs.queue import utc_now
from headway.ui.text_layout import one_line, printable


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
    FORGOT = "forgot"  # a file made the model worse at an earlier one
    SKIPPED = "skipped"
    FAILED = "failed"
    AGAIN = "again"
    COMMAND = "command"  # after a file, or a webhook, which failed
    DISK = "disk"  # more of it is used than was allowed
    PAUSED = "paused"
    RESUMED = "resumed"


@dataclass(frozen=True)
class InboxNotice:
    """One line for people, and what it is about."""

    kind: NoticeKind
    text: str
    job: InboxJob | None = None
    finding: Finding | None = None

    @classmethod
    def of_done(cls, job: InboxJob, learned: Learned) -> "InboxNotice":
        """What is said of a file that is done."""
        steps = f"global step {count(learned.first_step)} -> {count(learned.last_step)}"
        text = f"{printable(job.name)} done · {steps} · {plural(learned.rows, 'row')}"
        held_back = f" · {job.held_back}: current_model is not updated"
        return cls(NoticeKind.DONE, text + (held_back if job.held_back else ""), job)


class FileWebhook:
    """Posts to a webhook what became of each file.

    Args:
        url: of the webhook, "" for none.
        inbox: whose files they are.
        say: takes what there is to say of a notice that was not taken.
    """

    def __init__(self, url: str, inbox: InboxFolder, say: Callable[[InboxNotice], None]) -> None:
        self._inbox = inbox
        self._say = say
        self._problems: SimpleQueue[str] = SimpleQueue()  # of the threads that post
        self._notifier = Notifier(url, self._problems.put)

    def post(self, notice: InboxNotice) -> None:
        """Post a notice about a file that has ended; returns at once."""
        if notice.job and notice.job.ended_at:
            self._notifier.post(webhook_notice(notice, notice.job, self._inbox))

    def look(self) -> None:
        """Report what was not accepted; the queue continues."""
        with contextlib.suppress(Empty):
            while True:
                text = printable(one_line(self._problems.get_nowait()))
                self._say(InboxNotice(NoticeKind.COMMAND, text))

    def wait(self, seconds: float) -> None:
        """Let notices that are under way arrive, for so long at most."""
        self._notifier.wait(seconds)
        self.look()


def webhook_notice(notice: InboxNotice, job: InboxJob, inbox: InboxFolder) -> Notice:
    """What is posted about a file that has ended."""
    finding, learned = notice.finding, job.learned
    lines = [learned.line] if learned else []
    if finding:
        lines += four_parts(finding.what, finding.have, finding.need, finding.remedies)
    facts: dict[str, object] = {
        "file": printable(job.name),
        "state": job.state.value,
        "place": str(inbox.path / job.place),
        "receipt": f"{inbox.path / job.place}{RECEIPT}",
        "sha256": job.sha256,
    }
    if learned:
        facts |= {
            "global_step": learned.last_step,
            "rows": learned.rows,
            "learning": learned.verdict,
            "loss_before": learned.loss_before,
            "loss_after": learned.loss_after,
        }
    return Notice(
        "file",
        job.run,
        printable(notice.text),
        "\n".join(map(printable, lines)),
        facts,
        is_problem=job.state is JobState.FAILED,
    )


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
