"""Running attempt: its processes followed to the last event, what killed them, its exit code."""

import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from headway.base.errors import (
    Cause,
    Finding,
    MachineError,
    Refusal,
    RefusalMessage,
    refusal_from,
)
from headway.base.events import Ended, EventLog, Noted, StopAsked
from headway.base.host.oom_kills import count_oom_kills
from headway.base.process import ChildProcess, Stop
from headway.base.units import plural, seconds
from headway.runs.folder import RunFolder
from headway.runs.receipt import Receipt, how_to_resume, load_receipt
from headway.supervise.attempts.restart import LostWorkers
from headway.supervise.child import death_refusal
from headway.supervise.screen import Screen
from headway.supervise.stalls.due import Due
from headway.supervise.stalls.stall_watch import StallWatch
from headway.supervise.watch import Watch, log_deleted

_EXIT_S = 5.0  # for a trainer to end after its last event
_DEATH_S = 2.0  # for a killed one to be gone
KILLED = {Cause.PROCESS_KILLED, Cause.WORKER_LOST}  # from outside: new workers may fare better


class FollowedWorkers(Protocol):
    """The workers of an attempt, as far as they run on this machine."""

    @property
    def root(self) -> ChildProcess:
        """The process that logs and saves."""
        ...

    @property
    def processes(self) -> Sequence[ChildProcess]:
        """Those of this machine, the root first."""
        ...

    @property
    def stalls(self) -> StallWatch:
        """Those that make no progress."""
        ...

    def take_losses(self, step_s: float | None = None) -> list[Finding]:
        """What happened to the others since the last call."""
        ...


class RunningAttempt:
    """An attempt whose workers have been told to train.

    Args:
        folder: of the run.
        workers: of this machine; the first of them logs and saves.
        watch: shows what they do.
        log: gets what the root cannot log itself.
        stop: forwarded to the root, once.
        grace_s: after a stop request the root is killed.
        screen: shows how it ended.
        verbose: show the last lines of a root that died.
    """

    def __init__(
        self,
        folder: RunFolder,
        workers: FollowedWorkers,
        watch: Watch,
        log: EventLog,
        stop: Stop,
        grace_s: float,
        screen: Screen,
        *,
        verbose: bool = False,
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._watch = watch
        self._log = log
        self._stop = stop
        self._grace_s = grace_s
        self._screen = screen
        self._verbose = verbose
        self._losses: list[Finding] = []
        self._lost: LostWorkers | None = None
        self._is_overdue = False
        self._num_oom_kills = count_oom_kills()

    def follow(self) -> LostWorkers | None:
        """Show the attempt until its root ends.

        Returns:
            What ended it, if that is the loss of workers and nothing else: new ones can continue.
        """
        self._is_overdue = self._follow_root()
        self._workers.stalls.close()
        self._log_stalls()
        self._lost = None if self._is_overdue else self._find_lost_workers()
        return self._lost

    def close(self, why_no_restart: str = "") -> int:
        """Say how the attempt ended; returns its exit code.

        Args:
            why_no_restart: after a loss that new workers could have made good.
        """
        if why_no_restart:
            with contextlib.suppress(MachineError):
                self._log.write(Noted(Finding("warning", f"no restart: {why_no_restart}")))
            self._watch.take_events()
        if self._is_overdue:
            time_s = seconds(self._grace_s)
            self._log_stop(f"the trainer did not save within {time_s} and was killed")
        elif self._stop.by and self._lost:
            (self._folder.path / "receipt.json").unlink(missing_ok=True)  # of a failure
            self._log_stop(self._lost.finding.what)
        elif self._workers.stalls.ending:
            self._log_ending(self._workers.stalls.ending)
        elif why_no_restart and self._workers.stalls.last_due:
            self._log_end_of(self._workers.stalls.last_due)
        return self._finish()

    def _find_lost_workers(self) -> LostWorkers | None:
        last = self._watch.progress.ended
        if last and (last.finding is None or last.finding.cause is not Cause.WORKER_LOST):
            return None
        self._log_losses()
        own = last.finding if last and last.finding else self._death().finding()
        if any(one.cause not in KILLED for one in (*self._losses, own)):
            return None
        killed_before, killed = self._num_oom_kills, count_oom_kills()
        out_of_memory = None not in (killed_before, killed) and killed_before != killed
        finding = next(iter(self._losses), own)
        return LostWorkers(finding, self._watch.progress.job_step, out_of_memory)

    def _death(self) -> Refusal:
        """Why the root ended, if it logged no reason."""
        num, name = len(self._workers.processes), self._folder.path.name
        root = f" (worker 0 of {num})" if num > 1 else ""
        return death_refusal(self._workers.root, f"training {name}{root}")

    def _log_stalls(self) -> None:
        stalls = self._workers.stalls
        for event in stalls.take_events():
            with contextlib.suppress(MachineError):  # the disk that is full may be the cause
                self._log.write(event)
        if stalls.ending:
            self._stop.ask(stalls.ending.by, stalls.ending.exit_code)

    def _log_ending(self, stall: Due) -> None:
        """Say what made a root stop that has saved, as it was asked to."""
        last = self._watch.progress.ended
        if last and last.outcome == "interrupted":
            ended = Ended(last.outcome, int(stall.exit_code), last.line, stall.finding)
            with contextlib.suppress(MachineError):
                self._log.write(ended)
            self._watch.take_events()

    def _log_end_of(self, stall: Due) -> None:
        """Say what made a worker's processes end that no others take the place of."""
        (self._folder.path / "receipt.json").unlink(missing_ok=True)  # of a lost worker
        finding = stall.finding
        with contextlib.suppress(MachineError):
            self._log.write(Ended("failed", int(stall.exit_code), finding.what, finding))
        self._watch.take_events()

    def _log_losses(self) -> None:
        losses = self._workers.take_losses(self._watch.progress.usual_step_s)
        self._log_stalls()
        for finding in losses:
            self._losses.append(finding)
            self._log.write(Noted(finding))

    def _follow_root(self) -> bool:
        """Show the attempt until its root ends; forward a stop to it, once.

        The root is killed when the grace period after a stop is over, and when it has not ended
        some seconds after its last event. It ends by itself when another worker is gone.

        Returns:
            Whether a stop ended it before its last event.
        """
        root, watch, stop = self._workers.root, self._watch, self._stop
        watch.take_events()  # so that the last event of another attempt is not this one's
        forwarded, ended_s, killed_s = False, 0.0, 0.0
        for _ in watch.follow(root):
            now_s = time.monotonic()
            self._note_lost_log()
            self._log_losses()
            if stop.by and not forwarded:
                forwarded = True
                self._log.write(StopAsked(stop.by, watch.doing()))
                if self._workers.stalls.ending:
                    root.send_signal(signal.SIGCONT)  # else it would not hear of it
                root.send_signal(stop.signal or signal.SIGTERM)
            ended_s = ended_s or (now_s if watch.progress.ended else 0.0)
            hangs = bool(ended_s) and now_s - ended_s > _EXIT_S
            if not killed_s and (hangs or stop.since_s() > self._grace_s):
                killed_s = now_s
                root.send_signal(signal.SIGKILL)
            if killed_s and now_s - killed_s > _DEATH_S:
                break  # the kernel holds it: it dies when its disk or device answers
        self._note_lost_log()
        was_killed = killed_s > 0 and root.exit_code in (None, -signal.SIGKILL)
        return was_killed and watch.progress.ended is None

    def _log_stop(self, why: str) -> None:
        """Write the last event of a root that did not get as far as its own.

        Args:
            why: it did not.
        """
        saved, done = self._folder.last_saved_step(), self._watch.progress.job_step
        kept = f"step {saved:,} is saved" if saved else "nothing was saved"
        lost = f", {plural(done - saved, 'step')} lost" if done > saved else ""
        line = f"stopped by {self._stop.by}: {why} · {kept}{lost} · {how_to_resume(saved)}"
        stall = self._workers.stalls.ending
        finding = stall.finding if stall else None
        with contextlib.suppress(MachineError):
            self._log.write(Ended("interrupted", int(self._stop.code), line, finding))
        self._watch.take_events()

    def _note_lost_log(self) -> None:
        if self._watch.take_log_loss():
            with contextlib.suppress(MachineError):  # its folder may be gone, too
                self._log.write(Noted(log_deleted(self._log.path)))

    def _finish(self) -> int:
        """The exit code; a root that died without a last event gets one."""
        last = self._watch.progress.ended
        if last is not None:
            if last.finding:
                message = RefusalMessage(last.exit_code, (last.finding,))
                self._screen.refusal(refusal_from(message))
            elif not (self._folder.path / "receipt.json").exists():  # stopped before step 1
                self._screen.say(last.line)
            return last.exit_code
        refusal = self._death()
        finding = refusal.finding()
        with contextlib.suppress(MachineError):  # the disk that ended it may be the log's
            self._log.write(Ended("failed", int(refusal.code), finding.what, finding))
        self._watch.take_events()
        self._show_death(refusal)
        return int(refusal.code)

    def _show_death(self, refusal: Refusal) -> None:
        self._screen.refusal(refusal)
        if self._verbose:
            for line in self._workers.root.last_words():
                self._screen.say(line)


def newest_receipt(folder: RunFolder) -> Receipt | None:
    """The receipt that an attempt left; None if it left none that can be read."""
    try:
        return load_receipt(folder.path)
    except (OSError, msgspec.MsgspecError):
        return None
