"""Launched worker: supervision of one worker that torchrun, Slurm or Kubernetes started.

The launcher starts this process once per worker; it starts the process that computes, follows it,
and says why it ended. That of rank 0 owns the run: its lock, its log and what is shown.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import psutil

from headway.base.errors import Cause, Exit, Finding, MachineError, Remedy, UsageError
from headway.base.events import Ended, Event, LogEntry, read_events
from headway.base.host.launcher import LaunchedPlace
from headway.base.lock import RunLock
from headway.base.process import ChildProcess, Stop
from headway.base.process_id import ProcessId
from headway.runs.folder import RunFolder
from headway.runs.receipt import load_receipt
from headway.runs.settled import Settled, load_settled
from headway.runs.workers import Go, WorkerTree
from headway.supervise.attempts.opening import open_attempt
from headway.supervise.attempts.running_attempt import KILLED, RunningAttempt, newest_receipt
from headway.supervise.attempts.worker_watch import WorkerWatch
from headway.supervise.attempts.workers import start_worker
from headway.supervise.child import death_refusal
from headway.supervise.live.live_jobs import LiveJob
from headway.supervise.live.runtime_folder import LiveFolder
from headway.supervise.live.shared_memory import shared_memory_errors
from headway.supervise.progress import Aim, Progress
from headway.supervise.screen import Screen
from headway.supervise.stalls.due import StallRules
from headway.supervise.stalls.stall_watch import StallWatch
from headway.supervise.watch import POLL_S, Watch

_WAITS_LONGER = 3.0  # for workers that are watched elsewhere
_MORE_S = 10.0  # than the root's grace period, for a worker to hear that the root has ended
ALONE = LaunchedPlace("", 0, 1, 0, 1, "127.0.0.1", 0)


class LaunchedWorker:
    """One worker, from its start to its exit code.

    Args:
        folder: of the run, with plan.json; all machines share it.
        place: of this process among the workers; None for a single one.
        screen: what people see.
        stop: the stop request.

    Raises:
        UsageError: the folder has no plan.
    """

    def __init__(
        self, folder: RunFolder, place: LaunchedPlace | None, screen: Screen, stop: Stop
    ) -> None:
        plan = folder.plan()
        if plan is None:
            raise _no_plan(folder)
        self._folder, self._plan = folder, plan
        self._place = place or ALONE
        self._screen = screen
        self._stop = stop
        self._began_s = time.monotonic()

    def run(self) -> int:
        """Train; returns the exit code."""
        if self._folder.is_finished:
            return self._already_trained()
        last = self._last_word()
        if last:
            if self._place.rank == 0:
                self._screen.say(f"not started again by {self._place.launcher}: {last.line}")
            return last.exit_code
        with shared_memory_errors():
            live = LiveFolder()
        with live:
            rank, adapters = self._place.rank, self._plan.model.lora is not None
            process = start_worker(rank, live.path, adapters=adapters)
            tree = WorkerTree(self._place.workers, self._place.machines)
            watch = WorkerWatch(tree, live.path, {rank: process}, _WAITS_LONGER)
            watch.stalls.begin(self._stall_rules())
            try:
                if rank == 0:
                    return self._lead(_Root(process, watch), live)
                return self._follow(process, watch)
            finally:
                process.end()

    def _already_trained(self) -> int:
        receipt = load_receipt(self._folder.path)
        if self._place.rank == 0:
            self._screen.receipt(receipt)
            self._screen.say("already trained, 0 new steps")
        return Exit.KEPT if receipt.is_sound else Exit.BROKEN

    def _last_word(self) -> Ended | None:
        """How the attempt before a restart by the launcher ended, if new workers change nothing.

        torchrun starts all workers again whatever they ended with: after a stop, a refusal or an
        error of a worker's own, too. A run that lost workers continues.
        """
        if not self._place.restarts:
            return None
        entries = read_events(self._folder.events)
        attempt = [one for one in entries if one.attempt == entries[-1].attempt]
        launched_s = psutil.Process(os.getppid()).create_time()
        if not attempt or datetime.fromisoformat(attempt[0].at).timestamp() < launched_s:
            return None  # it did not get as far as an attempt
        ends = [one.event for one in attempt if isinstance(one.event, Ended)]
        lost = any(end.finding and end.finding.cause in KILLED for end in ends)
        return None if lost or not ends else ends[-1]

    def _settled(self) -> Settled:
        """How the run computes, by as many workers as there are now."""
        place = self._place
        settled = load_settled(self._folder.path, self._plan)
        return replace(settled, workers=place.workers, groups=place.machines)

    def _stall_rules(self) -> StallRules:
        """What is done about a stall here; the launcher restarts, if anybody does."""
        about = f"{self._plan.model.parameters}|{self._plan.machine.device}"
        run = self._folder.path if self._place.rank == 0 else None
        return StallRules(self._settled().on_stall, run, about)

    def _go(self, attempt: int) -> Go:
        place = self._place
        return Go(
            str(self._folder.path.resolve()),
            attempt,
            self._began_s,
            rank=place.rank,
            workers=place.workers,
            groups=WorkerTree(place.workers, place.machines).groups,
            launched=True,
        )

    # -- rank 0 ------------------------------------------------------------------------------

    def _lead(self, root: "_Root", live: LiveFolder) -> int:
        """Own the run while the root computes; returns the exit code."""
        folder, plan, settled = self._folder, self._plan, self._settled()
        with RunLock(folder.lock, str(live.path)) as lock:
            settled.save(folder.path)
            log, reader = open_attempt(folder, plan, lock, self._began_s)
            aim = Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
            progress = Progress(folder.path.name, str(folder.path), aim, pid=os.getpid())
            with shared_memory_errors():
                self._job(live).publish()
            self._screen.plan(settled.applied_to(plan))
            watch = Watch(self._screen, live.path, progress, reader, folder.path)
            root.root.send(self._go(log.attempt))
            attempt = RunningAttempt(
                folder, root, watch, log, self._stop, settled.grace_s, self._screen
            )
            attempt.follow()
            code = attempt.close()
        receipt = None if code == Exit.BUG else newest_receipt(folder)
        if receipt:
            self._screen.receipt(receipt)
        return code

    def _job(self, live: LiveFolder) -> LiveJob:
        path = self._folder.path.resolve()
        return LiveJob(
            run=path.name,
            folder=str(path),
            output_dir=str(path.parent),
            argv=("headway", "worker", str(path)),
            process=ProcessId.mine(),
            live=str(live.path),
            started_at=datetime.now(UTC).isoformat(),
        )

    # -- other ranks -------------------------------------------------------------------------

    def _follow(self, process: ChildProcess, watch: WorkerWatch) -> int:
        """Wait until a worker below the root ends; returns the exit code."""
        process.send(self._go(attempt=0))
        limit_s = self._settled().grace_s + _MORE_S
        forwarded, lost = False, list[Finding]()
        while process.is_running:
            killed = (one for one in watch.take_losses() if one.cause is Cause.WORKER_LOST)
            lost += killed  # by the watch itself; other deaths say why in their own words
            self._show(watch.stalls.take_events())
            if watch.stalls.ending:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGKILL)
            if self._stop.by and not forwarded:
                forwarded = True
                process.send_signal(self._stop.signal or signal.SIGTERM)
            if self._stop.since_s() > limit_s:
                process.send_signal(signal.SIGKILL)
            time.sleep(POLL_S)
        if process.exit_code == Exit.KEPT:
            return Exit.KEPT
        if self._stop.by:
            return self._stop.code
        name = f"worker {self._place.rank} of {self._place.workers}"
        if ending := watch.stalls.ending:
            refusal = ending.refusal()
        else:
            refusal = _refusal(lost[0]) if lost else death_refusal(process, name)
        self._screen.refusal(refusal)
        return int(refusal.code)

    def _show(self, events: Sequence[Event]) -> None:
        """Show what began and ended here; the log is the root's."""
        for event in events:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            t = time.monotonic() - self._began_s
            self._screen.event(LogEntry(at, t, 0, self._place.rank, event))


class _Root:
    """The root as it is followed; what happens to other workers, their own watches see."""

    def __init__(self, process: ChildProcess, watch: WorkerWatch) -> None:
        self.root = process
        self.processes = [process]
        self._watch = watch

    @property
    def stalls(self) -> StallWatch:
        """It, if it is not making progress."""
        return self._watch.stalls

    def take_losses(self, step_s: float | None = None) -> list[Finding]:
        """What happened to the root since the last call, if it was frozen or stuck."""
        return self._watch.take_losses(step_s)


def _refusal(lost: Finding) -> MachineError:
    """What ended a worker that was killed because the others would have waited for it."""
    return MachineError(
        lost.what,
        cause=Cause.WORKER_LOST,
        have=lost.have,
        need="workers that make progress",
        remedies=(Remedy("the launcher's command again", "continues from the last checkpoint"),),
    )


def _no_plan(folder: RunFolder) -> UsageError:
    return UsageError(
        f"{folder.path} has no plan that can be read",
        cause=Cause.RUN_UNREADABLE,
        have=f"no {folder.path}/plan.json" if folder.path.exists() else "no such folder",
        need="a run whose plan was saved, in a folder that all machines share",
        remedies=(
            Remedy(f"headway plan DATA --save {folder.path}", "plans, and saves the plan there"),
        ),
    )
