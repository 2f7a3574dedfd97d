"""Running attempt: its processes followed to the last event, and its exit code."""

import contextlib
import signal
import time

import msgspec

from headway.base.errors import MachineError, Refusal, RefusalMessage, refusal_from
from headway.base.events import Ended, EventLog, Noted, StopAsked
from headway.base.process import ChildProcess, Stop
from headway.base.units import plural, seconds
from headway.runs.folder import RunFolder
from headway.runs.receipt import Receipt, how_to_resume, load_receipt
from headway.supervise.child import death_refusal
from headway.supervise.screen import Screen
from headway.supervise.watch import Watch, log_deleted
from headway.supervise.workers import Workers

_EXIT_S = 5.0  # for a trainer to end after its last event
_DEATH_S = 2.0  # for a killed one to be gone


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
        workers: Workers,
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

    def follow(self) -> int:
        """Show the attempt until its root ends; returns its exit code."""
        if self._follow_root():
            self._log_overdue()
        return self._finish(self._workers.root)

    def _follow_root(self) -> bool:
        """Show the attempt until its root ends; forward a stop to it, once.

        The root is killed when the grace period after a stop is over, and when it has not ended
        some seconds after its last event. It ends by itself when another worker is gone.

        Returns:
            Whether a stop ended it before its last event.
        """
        root, watch, stop = self._workers.root, self._watch, self._stop
        forwarded, ended_s, killed_s = False, 0.0, 0.0
        for _ in watch.follow(root):
            now_s = time.monotonic()
            self._note_lost_log()
            for finding in self._workers.take_losses():
                self._log.write(Noted(finding))
            if stop.by and not forwarded:
                forwarded = True
                self._log.write(StopAsked(stop.by, watch.doing()))
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

    def _log_overdue(self) -> None:
        """Write the last event of a root that did not stop within the grace period."""
        saved, done = self._folder.last_saved_step(), self._watch.progress.job_step
        kept = f"step {saved:,} is saved" if saved else "nothing was saved"
        lost = f", {plural(done - saved, 'step')} lost" if done > saved else ""
        line = (
            f"stopped by {self._stop.by}: the trainer did not save within "
            f"{seconds(self._grace_s)} and was killed · {kept}{lost} · {how_to_resume(saved)}"
        )
        with contextlib.suppress(MachineError):
            self._log.write(Ended("interrupted", int(self._stop.code), line))
        self._watch.take_events()

    def _note_lost_log(self) -> None:
        if self._watch.take_log_loss():
            with contextlib.suppress(MachineError):  # its folder may be gone, too
                self._log.write(Noted(log_deleted(self._log.path)))

    def _finish(self, root: ChildProcess) -> int:
        """The exit code; a root that died without a last event gets one."""
        last = self._watch.progress.ended
        if last is not None:
            if last.finding:
                message = RefusalMessage(last.exit_code, (last.finding,))
                self._screen.refusal(refusal_from(message))
            elif not (self._folder.path / "receipt.json").exists():  # stopped before step 1
                self._screen.say(last.line)
            return last.exit_code
        refusal = death_refusal(root, f"training {self._folder.path.name}")
        finding = refusal.finding()
        with contextlib.suppress(MachineError):  # the disk that ended it may be the log's
            self._log.write(Ended("failed", int(refusal.code), finding.what, finding))
        self._watch.take_events()
        self._show_death(refusal, root)
        return int(refusal.code)

    def _show_death(self, refusal: Refusal, root: ChildProcess) -> None:
        self._screen.refusal(refusal)
        if self._verbose:
            for line in root.last_words():
                self._screen.say(line)


def newest_receipt(folder: RunFolder) -> Receipt | None:
    """The receipt that an attempt left; None if it left none that can be read."""
    try:
        return load_receipt(folder.path)
    except (OSError, msgspec.MsgspecError):
        return None
