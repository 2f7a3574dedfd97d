"""Inbox job: the record of one file, and what became of it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from headway.base.errors import Cause, Finding, Remedy, UsageError
from headway.base.versioned_json import read
from headway.config.run_name import append_to_name, make_run_name
from headway.config.settings import Given
from headway.inbox.recall.still_known import StillKnown
from headway.runs.receipt import Receipt

SCHEMA = "headway.inbox_job/1"
RECEIPT_SCHEMA = "headway.file_receipt/1"


class JobState(StrEnum):
    """What became of a file."""

    CLAIMED = "claimed"  # it is in processing/, to be trained
    DONE = "done"  # every row of it was trained
    SKIPPED = "skipped"  # the same content was trained before
    FAILED = "failed"  # the model is as it was before it
    UNDONE = "undone"  # it was trained, and somebody took the model back


@dataclass(frozen=True)
class GivenSetting:
    """One setting as it was written."""

    name: str
    value: str | list[str] | None
    origin: str

    def given(self) -> Given:
        """The setting, to be resolved."""
        return Given(self.name, self.value, self.origin)


@dataclass(frozen=True)
class Learned:
    """What a file's receipt says, in short."""

    first_step: int  # global step before it
    last_step: int
    rows: int  # trained, each counted once
    verdict: str  # on learning
    loss_before: float | None
    loss_after: float | None
    checkpoint: str  # folder name, in its run
    seconds: float
    line: str


@dataclass(frozen=True)
class InboxJob:
    """One file, or folder, that was taken from the inbox.

    Attributes:
        number: counted from 1; never used twice.
        name: as it was dropped.
        size: in bytes, when it was taken.
        sha256: of its content then; "" if it was not read.
        claimed_at: UTC, ISO 8601.
        run: folder name of its run, in .headway/runs.
        parent: the run that it continues, "" for the model that the inbox began with; like the
            settings it is final once the run has a plan.
        settings: that it is trained with.
        attempts: how often its training was started.
        crashes: how often its training died while the daemon lived on.
        state: what became of it.
        ended_at: UTC; "" while it is claimed.
        place: where it is now, relative to the inbox; "" after somebody took it out.
        was: where it was before that; "" if that was processing/.
        is_settled: whether everything that follows from its end is done, up to the file's move.
        learned: what was learned from it.
        finding: why it failed, or was skipped.
        is_promoted: of one that is done, whether current_model moved on to the model after it.
        held_back: why it did not.
    """

    schema: str
    number: int
    name: str
    size: int
    sha256: str
    claimed_at: str
    run: str
    parent: str
    settings: tuple[GivenSetting, ...] = ()
    attempts: int = 0
    crashes: int = 0
    state: JobState = JobState.CLAIMED
    ended_at: str = ""
    place: str = ""
    was: str = ""
    is_settled: bool = False
    learned: Learned | None = None
    finding: Finding | None = None
    is_promoted: bool = True
    held_back: str = ""

    def to_json(self) -> bytes:
        """The contents of its file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def file(self, jobs: Path) -> Path:
        """Its file, in the folder with all jobs."""
        return jobs / f"{self.number:04}.json"


def run_name(number: int, name: str) -> str:
    """The name of the run of a file: its job's number and its stem."""
    return append_to_name(f"{number:04}-{make_run_name(name)}", "")


def load_jobs(folder: Path) -> list[InboxJob]:
    """All jobs, in the order in which they were taken.

    Raises:
        UsageError: a record cannot be read, or a newer Headway wrote it.
    """
    if not folder.is_dir():
        return []
    jobs = [_load(path) for path in folder.glob("[0-9]*.json")]
    return sorted(jobs, key=lambda job: job.number)


def _load(path: Path) -> InboxJob:
    try:
        return read(path, InboxJob, SCHEMA)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"{path} cannot be read",
            cause=Cause.RUN_UNREADABLE,
            have=str(error),
            need="the record of a file that was trained: the next file continues from there",
            remedies=(Remedy(f"less {shlex.quote(str(path))}", "shows it"),),
        ) from None


def newest_done(jobs: Iterable[InboxJob]) -> InboxJob | None:
    """The job that the model stands after; None if it is as the inbox began."""
    done = [job for job in jobs if job.state is JobState.DONE]
    return done[-1] if done else None


def newest_promoted(jobs: Iterable[InboxJob]) -> InboxJob | None:
    """The job whose model is the current one; None if it is as the inbox began."""
    return newest_done(job for job in jobs if job.is_promoted)


def open_job(jobs: Iterable[InboxJob]) -> InboxJob | None:
    """The job whose file is being trained, or would be; None if there is none."""
    return next((job for job in jobs if job.state is JobState.CLAIMED), None)


def stands_on_first_model(runs: Path, jobs: Sequence[InboxJob]) -> bool:
    """Whether a file was trained, or has begun to be, on the model that an inbox began with."""
    job = open_job(jobs)
    is_begun = job is not None and (runs / job.run / "plan.json").is_file()
    return is_begun or newest_done(jobs) is not None


def learned_from(receipt: Receipt) -> Learned:
    """A receipt in short."""
    probe = receipt.learning_facts.train_probe
    return Learned(
        first_step=receipt.steps.first,
        last_step=receipt.steps.first + receipt.steps.applied,
        rows=receipt.rows.trained,
        verdict=receipt.learning.verdict,
        loss_before=probe.before if probe else None,
        loss_after=probe.after if probe else None,
        checkpoint=receipt.checkpoint.name if receipt.checkpoint else "",
        seconds=receipt.time.total,
        line=receipt.line,
    )


def file_receipt(job: InboxJob, receipt: Receipt | None, known: StillKnown | None = None) -> bytes:
    """What stands beside a file: what became of it, and the receipt of its run, if it ran.

    Args:
        job: of the file.
        receipt: of its run.
        known: what the model still knew after it.
    """
    plain: dict[str, Any] = msgspec.to_builtins(receipt) if receipt else {}
    outcome = "finished" if job.state is JobState.DONE else job.state.value
    plain |= {"schema": RECEIPT_SCHEMA, "outcome": outcome, "file": job}
    plain |= {"still_known": known} if job.state is JobState.DONE else {}
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
