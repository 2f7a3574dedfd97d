"""Inbox daemon: takes files one after the other and has each trained on top of the one before.

`step` does what is due and returns how long nothing more will be; the caller sleeps. Time, disk,
the trainer and the places to look at come in as arguments, so that every decision can be tested
without waiting for one.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.base.errors import Cause, ComeBack, Exit, Finding, MachineError
from headway.base.lock import exclusive_lock
from headway.base.process import Stop
from headway.base.units import seconds
from headway.inbox.arriving.arrivals import ArrivalKind
from headway.inbox.arriving.inbox_watch import SCAN_S, InboxWatch
from headway.inbox.arriving.listing import content_hash
from headway.inbox.ended.finisher import Finisher
from headway.inbox.jobs.findings import (
    already_trained,
    content_changed,
    crashed_often,
    in_one_line,
    is_empty,
    not_a_file,
    not_readable,
    vanished,
)
from headway.inbox.jobs.inbox_job import GivenSetting, InboxJob, JobState
from headway.inbox.jobs.outcomes import (
    MOST_CRASHES,
    EndVerdict,
    FileOutcome,
    TrainingEnd,
    is_trained,
    judge_end,
    receipt_of,
)
from headway.inbox.jobs.queue import Queue
from headway.inbox.neighbor.held_back import HeldBack
from headway.inbox.notices import DaemonState, InboxNotice, NoticeKind, write_activity
from headway.inbox.options import InboxOptions
from headway.inbox.recall.still_known import load_still_known
from headway.inbox.training_process import FileRequest, FileTrainer
from headway.runs.receipt import Receipt
from headway.ui.text_layout import printable

POLL_S = 0.1  # between two looks at the training process
_CRASH_S = 1.0  # after a crash
_LATER_S = (5.0, 10.0, 20.0, 40.0, 60.0)  # after each try that the machine did not allow


@dataclass(frozen=True)
class NextStep:
    """When to call `step` again; with a code, never."""

    sleep_s: float
    code: int | None = None


class Daemon:
    """The daemon of one inbox, whose lock the caller holds.

    Args:
        queue: the jobs.
        options: how files are taken.
        settings: how they are trained.
        trainer: trains one of them.
        stop: a request to end.
        say: takes what there is to say.
        once: end when nothing is left.
        held_back: what nothing may be trained for; by default a pause.
    """

    def __init__(
        self,
        queue: Queue,
        options: InboxOptions,
        settings: Sequence[GivenSetting],
        trainer: FileTrainer,
        stop: Stop,
        say: Callable[[InboxNotice], None],
        *,
        once: bool = False,
        held_back: HeldBack | None = None,
    ) -> None:
        self.queue = queue
        self._inbox = queue.inbox
        self._options = options
        self._settings = tuple(settings)
        self._trainer = trainer
        self._stop = stop
        self._say = say
        self._once = once
        self._held_back = held_back or HeldBack(queue.inbox)
        self._work: contextlib.ExitStack | None = None  # holds the lock under which files move
        self._watch = InboxWatch(queue.inbox.path, options.priority)
        self._finisher = Finisher(queue, options, say)
        self._training: int | None = None  # number of the job whose file it is
        self._was_asked = False
        self._look_again = False  # something that was ready could not be taken
        self._not_before_s = 0.0
        self._num_later = 0
        self._activity: tuple[DaemonState, str] | None = None
        self._code = Exit.KEPT  # of the first file that failed

    def recover(self) -> None:
        """Finish what a daemon before this one left unfinished."""
        self._inbox.delete_leftovers()
        for path in self.queue.recover():
            name = printable(path.name)
            self._say(InboxNotice(NoticeKind.FOUND, f"{name} is back in the inbox: half claimed"))
        if job := self.queue.open:
            self._say(InboxNotice(NoticeKind.FOUND, f"resuming {printable(job.name)}", job))

    def close(self) -> None:
        """Let commands of people change the inbox."""
        if self._work:
            self._work.close()
            self._work = None

    def step(self, now_s: float) -> NextStep:
        """Do what is due. What the disk does not take is done again later.

        Args:
            now_s: monotonic.
        """
        try:
            return self._step(now_s)
        except (MachineError, OSError) as error:
            finding = error.finding() if isinstance(error, MachineError) else not_readable(error)
            self._wait(finding, now_s)
            self.close()  # the records are read again
            return NextStep(POLL_S)

    def _step(self, now_s: float) -> NextStep:
        if self._work:
            self._finisher.settle_measured()
        if job := self._trained:
            return self._follow(job, now_s)
        if self._stop.by:
            return NextStep(0, int(self._stop.code))
        self._watch.look(now_s)
        if why := self._held_back.why(now_s, is_training=False):
            if not self._trainer.is_measuring:
                self.close()
            self._does(DaemonState.PAUSED, why)
            return NextStep(SCAN_S)
        if now_s < self._not_before_s:
            return NextStep(min(self._not_before_s - now_s, SCAN_S))
        found = self._watch.arrivals
        if not (found.ready or found.refused or self.queue.open or self.queue.unsettled):
            self.close()
            return self._idle()  # without a look at the records, of which there may be many
        if not self._hold():
            return NextStep(POLL_S)
        self._refuse_what_is_no_file()
        if job := self._next_job():
            return self._begin(job, now_s)
        if self.queue.unsettled:  # the last file is being measured
            return NextStep(POLL_S)
        self.close()
        return self._idle()

    @property
    def job(self) -> InboxJob | None:
        """The job whose file is being trained, or measured while none is trained."""
        measured = self.queue.unsettled if self._trainer.is_measuring else []
        return self._trained or next(iter(measured), None)

    @property
    def _trained(self) -> InboxJob | None:
        return next((one for one in self.queue.jobs if one.number == self._training), None)

    # ---- between two files ---------------------------------------------------------------------

    def _idle(self) -> NextStep:
        waiting = self._watch.arrivals.waiting
        again, self._look_again = self._look_again, False
        is_left = any(one.listed.num_files for one in waiting)  # an empty folder may stay so
        if self._once and not is_left and not again:
            return NextStep(0, int(self._code))
        first = waiting[0] if waiting else None
        why = f"{printable(first.listed.name)}: {first.why}" if first else "the inbox is empty"
        self._does(DaemonState.IDLE, why)
        return NextStep(SCAN_S)

    def _hold(self) -> bool:
        """Take the lock under which files move; False while a command of a person has it."""
        if self._work:
            return True
        busy = ComeBack(f"{self._inbox.path} is being changed", cause=Cause.LOCKED)
        held = contextlib.ExitStack()
        try:
            held.enter_context(exclusive_lock(self._inbox.work_lock, busy))
        except ComeBack:
            return False
        self._work = held
        self.queue.reload()
        self.queue.recover()
        return True

    def _refuse_what_is_no_file(self) -> None:
        for listed in self._watch.arrivals.refused:
            self._watch.forget(listed)
            if listed.kind is ArrivalKind.UNNAMED:
                self._look_again = True
                if name := self.queue.rename(listed):
                    text = f"a file whose name is not valid text was renamed to {name}"
                    self._say(InboxNotice(NoticeKind.FOUND, text))
                continue
            finding = not_a_file(printable(listed.name), listed.kind.value)
            self._tell_failure(self.queue.refuse(listed, finding), Exit.DATA)

    def _next_job(self) -> InboxJob | None:
        """A job whose file is to be trained now, or measured after a kill."""
        is_lost = not self._trainer.is_measuring
        unmeasured = self.queue.unmeasured if is_lost else []
        return next(iter(unmeasured), None) or self.queue.open or self._take_next()

    def _take_next(self) -> InboxJob | None:
        """Take the first file that can be."""
        names = {job.name for job in self.queue.unsettled}
        for listed in self._watch.arrivals.ready:
            if listed.name in names:  # it is taken once that one has left processing/
                continue
            self._inbox.check()
            job = self.queue.claim(listed)
            self._watch.forget(listed)
            if job:
                return job
            self._look_again = True
        return None

    def _ends_at_once(self, job: InboxJob) -> bool:
        """Whether a file has nothing to train, or nothing new; then it has ended."""
        if not job.size:
            self._fail(job, is_empty(job), Exit.DATA)
            return True
        before = self.queue.same_content(job)
        if before is None or self._options.on_duplicate == "train":
            return False
        finding = already_trained(job, before)
        if self._options.on_duplicate == "fail":
            self._fail(job, finding, Exit.DATA)
        else:
            job = self.queue.skip(job, finding)
            self._say(InboxNotice(NoticeKind.SKIPPED, f"{finding.what}: skipped", job, finding))
        return True

    # ---- one file ------------------------------------------------------------------------------

    def _begin(self, job: InboxJob, now_s: float) -> NextStep:
        run = self._inbox.runs / job.run
        if is_trained(receipt_of(run)):
            if load_still_known(run):
                return self._take_end(job, TrainingEnd(Exit.KEPT), now_s)
        elif not self.queue.path_of(job).exists():
            self._fail(job, vanished(job), Exit.DATA)
            return NextStep(0)
        elif job.attempts and (changed := self._changed(job)):
            self._fail(job, changed, Exit.DATA)
            return NextStep(0)
        elif not self.queue.has_run(job) and self._ends_at_once(job):
            return NextStep(0)
        else:
            job = self.queue.begin_attempt(job, self._settings)
        self._trainer.start(self._request(job))
        self._training, self._was_asked = job.number, False
        self._does(DaemonState.TRAINING, printable(job.name))
        return NextStep(POLL_S)

    def _request(self, job: InboxJob) -> FileRequest:
        runs = self._inbox.runs
        return FileRequest(
            name=job.name,
            source=str(self.queue.path_of(job)),
            settings=job.settings,
            run_name=job.run,
            output_dir=str(runs),
            parent=str(runs / job.parent) if job.parent else "",
            num_waiting=self._watch.num_waiting,
            next_source=self._watch.next_file,
            learned=self.queue.learned_files(job),
            backup=self._options.before_file == "backup",
            measure_all=self._finisher.measures_first,
            beside=job.state is JobState.CLAIMED and not self._finisher.measures_first,
        )

    def _follow(self, job: InboxJob, now_s: float) -> NextStep:
        """Look at the training process; pass a stop or a pause on to it."""
        self._watch.glance(now_s)
        asked = self._stop.by or self._held_back.why(now_s, is_training=True)
        if asked and not self._was_asked:
            self._was_asked = True
            self._trainer.ask_to_stop()
        end = self._trainer.end()
        if end is None:
            return NextStep(POLL_S)
        self._training = None
        self._finisher.settle_measured()
        return self._take_end(job, end, now_s)

    def _take_end(self, job: InboxJob, end: TrainingEnd, now_s: float) -> NextStep:
        run = self._inbox.runs / job.run
        receipt = receipt_of(run)
        verdict = judge_end(end, run, was_stopped=self._was_asked, receipt=receipt)
        if verdict.outcome is not FileOutcome.LATER:
            self._num_later = 0
        match verdict.outcome:
            case FileOutcome.DONE:
                assert receipt is not None, "it is what says so"
                if load_still_known(run) or not self._was_asked:
                    self._finish(job, receipt, is_measuring=end.is_measuring)
            case FileOutcome.FAILED:
                code = end.code if end.code > 0 else Exit.BROKEN
                finding = verdict.finding
                assert finding is not None, "a failure has a reason"
                self._fail(job, self._changed(job) or finding, code)
            case FileOutcome.CRASHED:
                self._crash(job, verdict, now_s)
            case FileOutcome.LATER:
                self._wait(verdict.finding, now_s)
            case FileOutcome.GIVE_UP:
                finding = verdict.finding
                text = finding.what if finding else "no file can be trained with these settings"
                self._say(InboxNotice(NoticeKind.FAILED, text, job, finding))
                return NextStep(0, end.code)
            case FileOutcome.AGAIN | FileOutcome.STOPPED:
                pass
        return NextStep(0)

    def _finish(self, job: InboxJob, receipt: Receipt, *, is_measuring: bool) -> None:
        """Commit a file: its run trained all of it, and it still is what was claimed."""
        if job.state is JobState.CLAIMED:
            if changed := self._changed(job):
                self._fail(job, changed, Exit.DATA)
                return
            job = self._finisher.record(job, receipt)
        if not is_measuring:
            self._finisher.settle(job)

    def _changed(self, job: InboxJob) -> Finding | None:
        """What to say of a file that is not what was claimed any more; None if it is."""
        path = self.queue.path_of(job)
        if not job.sha256 or not path.exists():
            return None
        try:
            now = content_hash(path)
        except OSError:
            now = ""
        return None if now == job.sha256 else content_changed(job, now)

    def _crash(self, job: InboxJob, verdict: EndVerdict, now_s: float) -> None:
        job = self.queue.record_crash(job)
        finding = verdict.finding
        assert finding is not None, "a crash has a reason"
        if job.crashes >= MOST_CRASHES:
            self._fail(job, crashed_often(job, finding), Exit.MACHINE)
            return
        tries = f"attempt {job.crashes + 1} of {MOST_CRASHES}"
        self._say(InboxNotice(NoticeKind.AGAIN, f"{finding.what}: {tries}", job, finding))
        self._not_before_s = now_s + _CRASH_S

    def _wait(self, finding: Finding | None, now_s: float) -> None:
        """Try the same again after a while, a longer one each time."""
        wait_s = _LATER_S[min(self._num_later, len(_LATER_S) - 1)]
        self._num_later += 1
        self._not_before_s = now_s + wait_s
        what = in_one_line(finding) if finding else "training is not possible now"
        self._does(DaemonState.WAITING, what)
        text = f"{what}: trying again in {seconds(wait_s)}"
        self._say(InboxNotice(NoticeKind.AGAIN, text, finding=finding))

    def _fail(self, job: InboxJob, finding: Finding, code: int) -> None:
        self._tell_failure(self.queue.fail(job, finding), code)

    def _tell_failure(self, job: InboxJob, code: int) -> None:
        if self._code is Exit.KEPT:
            self._code = Exit(code) if code in set(Exit) else Exit.BROKEN
        text = f"{printable(job.name)} failed · moved to {job.place}"
        self._say(InboxNotice(NoticeKind.FAILED, text, job, job.finding))

    def _does(self, state: DaemonState, why: str) -> None:
        """Note what the daemon does now, for `status`."""
        if (state, why) == self._activity:
            return
        before = self._activity[0] if self._activity else None
        self._activity = (state, why)
        write_activity(self._inbox.daemon, state, why)
        if state is DaemonState.PAUSED and before is not state:
            self._say(InboxNotice(NoticeKind.PAUSED, f"paused: {why}"))
        elif before is DaemonState.PAUSED:
            self._say(InboxNotice(NoticeKind.RESUMED, "resumed"))
