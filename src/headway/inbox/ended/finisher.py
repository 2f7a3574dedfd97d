"""Finisher: records that a file was trained; once it was measured, moves it, and tells."""

from collections.abc import Callable

from headway.base.units import size
from headway.inbox.jobs.inbox_job import InboxJob, learned_from
from headway.inbox.jobs.pruning import prune
from headway.inbox.jobs.queue import Queue
from headway.inbox.notices import InboxNotice, NoticeKind
from headway.inbox.options import InboxOptions
from headway.inbox.recall.gate import GateTerm, why_closed
from headway.inbox.recall.still_known import load_still_known
from headway.runs.receipt import Receipt


class Finisher:
    """What becomes of files that were trained.

    Args:
        queue: the jobs.
        options: the gate, and which models are kept.
        say: takes what there is to say.
    """

    def __init__(
        self, queue: Queue, options: InboxOptions, say: Callable[[InboxNotice], None]
    ) -> None:
        self._queue = queue
        self._options = options
        self._say = say

    @property
    def measures_first(self) -> bool:
        """Whether nothing is recorded before it was measured: the gate asks for it."""
        return GateTerm.NOTHING_FORGOTTEN in self._options.promote_if

    def record(self, job: InboxJob, receipt: Receipt) -> InboxJob:
        """Record that all of a file was trained; from now on the model stands after it."""
        learned = learned_from(receipt)
        known = load_still_known(self._queue.inbox.runs / job.run)
        held_back = why_closed(self._options.promote_if, learned.verdict, known)
        return self._queue.finish(job, learned, held_back)

    def settle_measured(self) -> None:
        """Settle files after which what is still known was measured meanwhile."""
        waiting = [job.number for job in self._queue.unmeasured]
        for job in self._queue.unsettled:
            if job.number not in waiting:
                self.settle(job)

    def settle(self, job: InboxJob) -> None:
        """Write a file's receipt, move it, tell, and delete what is no longer wanted."""
        job = self._queue.settle(job)
        assert job.learned is not None, "it is recorded"
        self._say(InboxNotice.of_done(job, job.learned))
        known = load_still_known(self._queue.inbox.runs / job.run)
        for warning in known.warnings if known else ():
            self._say(InboxNotice(NoticeKind.FORGOT, f"warning: {warning}"))
        options = self._options
        excess = prune(
            self._queue.inbox, self._queue.jobs, options.keep_models, options.disk_budget
        )
        if excess:
            text = f"checkpoints exceed disk_budget by {size(excess)}; all of them are needed"
            self._say(InboxNotice(NoticeKind.DISK, text))
