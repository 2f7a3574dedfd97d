"""Queue of an inbox: each change of a job and its file, in durable steps that can be cut anywhere.

The records in .headway/jobs are the truth. A file is claimed by a rename and counts once its record
is written. A job ends with one write of its record, which says where its file goes; everything
after that (the link to the model, the receipt, the move) only follows, and is done again after a
kill.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from headway.base.errors import Finding, four_parts
from headway.inbox.arriving.arrivals import FileWriter, Listed
from headway.inbox.arriving.listing import content_hash, look_at, writer_of
from headway.inbox.folder import ERROR, RECEIPT, Disk, InboxFolder, free_name
from headway.inbox.jobs.findings import (
    half_trained,
    model_deleted,
    not_in_failed,
    nothing_to_undo,
    undone,
    with_new_path,
    with_retry,
)
from headway.inbox.jobs.inbox_job import (
    SCHEMA,
    GivenSetting,
    InboxJob,
    JobState,
    Learned,
    file_receipt,
    load_jobs,
    newest_done,
    newest_promoted,
    open_job,
    run_name,
)
from headway.inbox.jobs.index import JobIndex
from headway.inbox.jobs.model_backup import restore_model
from headway.inbox.jobs.outcomes import receipt_of
from headway.inbox.recall.still_known import LearnedFile, load_still_known
from headway.ui.text_layout import printable

Now = Callable[[], datetime]
_IN_FAILED = {JobState.FAILED, JobState.UNDONE}


def utc_now() -> datetime:
    """The time for records; nothing is decided by it."""
    return datetime.now(UTC)


class Queue:
    """The jobs of an inbox.

    Args:
        inbox: whose folders exist.
        disk: makes the changes.
        now: for the times in records.
        index: of the records; by default that of the inbox.

    Attributes:
        jobs: all of them, in the order in which they were taken.
    """

    def __init__(
        self, inbox: InboxFolder, disk: Disk, now: Now = utc_now, index: JobIndex | None = None
    ) -> None:
        self.inbox = inbox
        self._disk = disk
        self._now = now
        self._index = index or JobIndex(inbox.index)
        self.jobs: list[InboxJob] = []
        self.reload()

    def reload(self) -> None:
        """Read all records again.

        Raises:
            UsageError: one of them cannot be read.
        """
        self.jobs = load_jobs(self.inbox.jobs)
        self._index.rebuild(self.jobs)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    @property
    def head(self) -> InboxJob | None:
        """The job that the model stands after."""
        return newest_done(self.jobs)

    @property
    def open(self) -> InboxJob | None:
        """The job that is to be trained now."""
        return open_job(self.jobs)

    @property
    def unsettled(self) -> list[InboxJob]:
        """Jobs that are done, and still in processing/ until what is still known was measured."""
        return [job for job in self.jobs if job.state is JobState.DONE and not job.is_settled]

    @property
    def unmeasured(self) -> list[InboxJob]:
        """Those of them after which it is not measured."""
        runs = self.inbox.runs
        return [job for job in self.unsettled if load_still_known(runs / job.run) is None]

    def learned_files(self, newest: InboxJob) -> tuple[LearnedFile, ...]:
        """The files that the model has learned from after a job, in their order."""
        done = [
            job for job in self.jobs if job.state is JobState.DONE and job.number < newest.number
        ]
        return tuple(
            LearnedFile(job.number, printable(job.name), str(self.inbox.runs / job.run))
            for job in (*done, newest)
        )

    def path_of(self, job: InboxJob) -> Path:
        """The file of a job that is claimed."""
        return self.inbox.processing / job.name

    def same_content(self, job: InboxJob) -> InboxJob | None:
        """A job that has trained the same content; None if there is none."""
        number = self._index.trained(job.sha256) if job.sha256 else None
        return next((one for one in self.jobs if one.number == number), None)

    # ---- one file ------------------------------------------------------------------------------

    def claim(self, listed: Listed) -> InboxJob | None:
        """Take a file out of the inbox.

        Returns:
            Its job; None if it is gone, or a program has opened it meanwhile: then it was put back.

        Raises:
            MachineError: it was not taken.
        """
        source, path = self.inbox.path / listed.name, self.inbox.processing / listed.name
        try:
            if look_at(source) != listed:
                return None
            self._disk.move(source, path)
        except FileNotFoundError:
            return None
        try:
            found = replace(look_at(path), name=listed.name)
            digest = content_hash(path)
            is_whole = found == listed == look_at(path) and writer_of(path) is not FileWriter.ACTIVE
        except OSError:  # unreadable: its training says why
            digest, is_whole = "", True
        if not is_whole:
            self._put_back(path)
            return None
        number = self.jobs[-1].number + 1 if self.jobs else 1
        job = InboxJob(
            schema=SCHEMA,
            number=number,
            name=listed.name,
            size=listed.bytes,
            sha256=digest,
            claimed_at=self._now().isoformat(),
            run=run_name(number, listed.name),
            parent="",
        )
        self._write(job)
        return job

    def refuse(self, listed: Listed, finding: Finding) -> InboxJob:
        """Move what cannot be trained into failed/, unopened."""
        number = self.jobs[-1].number + 1 if self.jobs else 1
        place = f"failed/{free_name(self.inbox.failed, listed.name, number)}"
        at = self._now().isoformat()
        job = InboxJob(SCHEMA, number, listed.name, listed.bytes, "", at, "", "")
        job = replace(job, state=JobState.FAILED, ended_at=at, place=place, finding=finding)
        return self.settle(self._write(replace(job, was=listed.name)))

    def rename(self, listed: Listed) -> str:
        """Give a name that is text to what has none; returns it, "" if the file is gone."""
        number = self.jobs[-1].number + 1 if self.jobs else 1
        name = printable(os.fsencode(listed.name).decode(errors="replace"))
        name = free_name(self.inbox.path, name, number)
        try:
            self._disk.move(self.inbox.path / listed.name, self.inbox.path / name)
        except FileNotFoundError:
            return ""
        return name

    def begin_attempt(self, job: InboxJob, settings: tuple[GivenSetting, ...]) -> InboxJob:
        """Record that its training is started.

        A run that has begun continues as it began; before that, settings and model are those of
        now.
        """
        if not self.has_run(job):
            job = replace(job, parent=self.head.run if self.head else "", settings=settings)
        return self._write(replace(job, attempts=job.attempts + 1))

    def has_run(self, job: InboxJob) -> bool:
        """Whether the run of a job has begun: it has a plan."""
        return (self.inbox.runs / job.run / "plan.json").is_file()

    def record_crash(self, job: InboxJob) -> InboxJob:
        """Record that its training died."""
        return self._write(replace(job, crashes=job.crashes + 1))

    def finish(self, job: InboxJob, learned: Learned, held_back: str = "") -> InboxJob:
        """Record the end of a job whose every row was trained; `settle` does what follows.

        Args:
            job: of the file.
            learned: its receipt, in short.
            held_back: why current_model does not move on to the model after it; "" if it does.
        """
        job = replace(job, state=JobState.DONE, learned=learned, held_back=held_back)
        job = self._write(self._ended(replace(job, is_promoted=not held_back)))
        self._link_model()
        return job

    def settle(self, job: InboxJob) -> InboxJob:
        """Do what follows from the end of a job, in an order that ends with its file's move."""
        self._link_model()
        self._write_beside(job)
        source = self._source_of(job)
        if job.state is JobState.UNDONE:
            for end in (RECEIPT, ERROR):
                self._disk.remove(source.with_name(source.name + end))
        place = self.inbox.path / job.place
        if not os.path.lexists(place):  # a kill came after the move
            with contextlib.suppress(FileNotFoundError):  # somebody took it: its receipt stays
                self._disk.move(source, place)
        return self._write(replace(job, is_settled=True))

    def skip(self, job: InboxJob, finding: Finding) -> InboxJob:
        """End a job that has nothing new."""
        return self._end(replace(job, state=JobState.SKIPPED, finding=finding))

    def fail(self, job: InboxJob, finding: Finding) -> InboxJob:
        """End a job that left the model as it was."""
        return self._end(replace(job, state=JobState.FAILED, finding=finding))

    # ---- what people do with jobs that have ended ----------------------------------------------

    def undo(self) -> InboxJob:
        """Take the model back to before the last file, which goes to failed/.

        Raises:
            UsageError: nothing was trained, a file is half trained on top of it, or the model
                before it was deleted and not backed up.
            MachineError: the backup is damaged.
        """
        self._settle_all()
        job, half = self.head, self.open
        if job is None:
            raise nothing_to_undo(self.inbox)
        if half and self.has_run(half):
            raise half_trained(self.inbox, half)
        before = newest_done(one for one in self.jobs if one.number < job.number)
        if before and not self._model_of(before).is_dir():
            model = self._model_of(before)
            if not restore_model(model.parent, model.name, self._now()):
                raise model_deleted(self.inbox, before)
        place = f"failed/{free_name(self.inbox.failed, Path(job.place).name, job.number)}"
        finding = undone(self.inbox, job, place)
        job = replace(job, state=JobState.UNDONE, was=job.place, place=place, finding=finding)
        return self.settle(self._write(replace(job, is_settled=False)))

    def retry(self, name: str) -> InboxJob:
        """Put a file in failed/ back into the inbox, to be taken again.

        Args:
            name: as it is in failed/, or as it was dropped.

        Raises:
            UsageError: there is no such file.
        """
        path = self.inbox.failed / Path(name).name
        jobs = [job for job in self.jobs if job.state in _IN_FAILED and job.place]
        places = {f"failed/{path.name}"}
        found = [job for job in jobs if job.place in places] or [
            job for job in jobs if job.name == path.name
        ]
        if not found or not os.path.lexists(self.inbox.path / found[-1].place):
            raise not_in_failed(self.inbox, name)
        job = found[-1]
        source = self.inbox.path / job.place
        for end in (RECEIPT, ERROR):
            self._disk.remove(source.with_name(source.name + end))
        target = self.inbox.path / free_name(self.inbox.path, job.name, job.number)
        self._disk.move(source, target)
        return self._write(replace(job, place="", was=job.place))

    # ---- after a start -------------------------------------------------------------------------

    def recover(self) -> list[Path]:
        """Finish what a kill interrupted; no decision is made twice.

        A file that is trained and not measured stays in processing/ until it is.

        Returns:
            Files in processing/ without a record, which are back in the inbox.
        """
        unmeasured = self.unmeasured
        self._settle_all(but=unmeasured)
        self._link_model()
        known = {job.name for job in (self.open, *unmeasured) if job}
        strays = [path for path in self.inbox.processing.iterdir() if path.name not in known]
        return [self._put_back(path) for path in sorted(strays)]

    def _settle_all(self, but: Sequence[InboxJob] = ()) -> None:
        for job in self.jobs:
            if job.state is not JobState.CLAIMED and not job.is_settled and job not in but:
                self.settle(job)

    def _source_of(self, job: InboxJob) -> Path:
        return self.inbox.path / job.was if job.was else self.path_of(job)

    def _end(self, job: InboxJob) -> InboxJob:
        return self.settle(self._write(self._ended(job)))

    def _ended(self, job: InboxJob) -> InboxJob:
        place = self.inbox.failed if job.state is JobState.FAILED else self.inbox.done
        name = free_name(place, job.name, job.number)
        job = replace(job, ended_at=self._now().isoformat(), place=f"{place.name}/{name}")
        if job.finding and job.state is JobState.FAILED:
            finding = with_new_path(job.finding, self.path_of(job), place / name)
            job = replace(job, finding=with_retry(finding, self.inbox, job))
        return job

    def _write_beside(self, job: InboxJob) -> None:
        """Write the receipt of a file, and why it failed, to where it is going to be."""
        path = self.inbox.path / job.place
        if job.finding and job.state in _IN_FAILED:
            one = job.finding
            text = "\n".join(four_parts(one.what, one.have, one.need, one.remedies))
            self._disk.write(path.with_name(path.name + ERROR), text + "\n")
        run = self.inbox.runs / job.run if job.run else None
        receipt, known = (receipt_of(run), load_still_known(run)) if run else (None, None)
        self._disk.write(path.with_name(path.name + RECEIPT), file_receipt(job, receipt, known))

    def _link_model(self) -> None:
        """Point current_model to the model after the newest job that was promoted."""
        link, head = self.inbox.current_model, newest_promoted(self.jobs)
        if head is None or head.learned is None:
            if link.is_symlink():
                self._disk.remove(link)
            return
        target = self._model_of(head)
        if not link.is_symlink() or link.resolve() != target.resolve():
            self._disk.link(link, target)

    def _model_of(self, job: InboxJob) -> Path:
        checkpoint = job.learned.checkpoint if job.learned else ""
        return self.inbox.runs / job.run / checkpoint

    def _put_back(self, path: Path) -> Path:
        """Move a file that no record claims back into the inbox."""
        number = self.jobs[-1].number + 1 if self.jobs else 1
        target = self.inbox.path / free_name(self.inbox.path, path.name, number)
        self._disk.move(path, target)
        return target

    def _write(self, job: InboxJob) -> InboxJob:
        self._disk.write(job.file(self.inbox.jobs), job.to_json())
        self.jobs = [one for one in self.jobs if one.number != job.number] + [job]
        self.jobs.sort(key=lambda one: one.number)
        self._index.put(job)
        return job
