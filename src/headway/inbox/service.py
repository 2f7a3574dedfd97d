"""Inbox service: the daemon's lock, its signals, and the loop that sleeps for it."""

import contextlib
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from headway.base.errors import Cause, ComeBack, Remedy, UsageError
from headway.base.lock import Owner, RunLock
from headway.base.process import Stop
from headway.inbox.arriving.folder_wake import FolderWake
from headway.inbox.daemon import Daemon
from headway.inbox.ended.after_file import AfterFile
from headway.inbox.file_process import FileProcess
from headway.inbox.folder import Disk, InboxFolder
from headway.inbox.jobs.queue import Queue
from headway.inbox.monitoring import HOST, Heart, monitored
from headway.inbox.neighbor.gpu_room import GpuProbe, GpuRoom, RoomRules, own_processes
from headway.inbox.neighbor.held_back import HeldBack
from headway.inbox.neighbor.rotating_log import RotatingLog
from headway.inbox.notices import FileWebhook, InboxNotice, NoticeKind
from headway.inbox.options import InboxSettings, save_first_model
from headway.inbox.show_inbox import notice_lines
from headway.inbox.systemd import Watchdog
from headway.inbox.training_process import Output

_NOTICE_S = 5.0  # at the end, for notices that are under way
_POLL_S = 0.1  # for the last commands after files
_REST = 4.0  # times as long as a look at the inbox took, before the next one


def serve(
    inbox: InboxFolder,
    settings: InboxSettings,
    output: Output,
    say: Callable[[InboxNotice], None],
    *,
    once: bool = False,
    port: int | None = None,
) -> int:
    """Train every file that comes, until it is asked to stop.

    Args:
        inbox: the folder; it is made if it is missing.
        settings: how files are taken and trained.
        output: how training is shown.
        say: takes what the daemon says.
        once: end when nothing is left to train.
        port: that answers requests for the state of the inbox; None for none.

    Returns:
        The exit code.

    Raises:
        ComeBack: another daemon serves this inbox.
        UsageError: a place in the inbox leads out of it, a record cannot be read, the port is
            taken, or room is asked for on a GPU and there is none.
        MachineError: its folders cannot be made.
    """
    held_back = HeldBack(inbox, settings.options.train_between, _room(settings.options.room))
    inbox.make()
    with RunLock(inbox.lock, taken=_already_served), Stop().listening() as stop:
        save_first_model(inbox, settings.first_model)
        service = _Service(inbox, settings, output, say, stop, held_back, once=once)
        with (
            contextlib.closing(service),
            stop.before_leaving(service.process.close),
            monitored(inbox, port, service.heart) as found,
        ):
            if found:
                text = f"listening on http://{HOST}:{found}/metrics, /healthz and /progressz"
                say(InboxNotice(NoticeKind.LISTENING, text))
            return service.run()


class _Service:
    """The daemon and everything that runs beside it."""

    def __init__(
        self,
        inbox: InboxFolder,
        settings: InboxSettings,
        output: Output,
        say: Callable[[InboxNotice], None],
        stop: Stop,
        held_back: HeldBack,
        *,
        once: bool,
    ) -> None:
        options = settings.options
        self._say, self._stop = say, stop
        self._log = RotatingLog(inbox.state / "inbox.log")
        self._queue = Queue(inbox, Disk())
        idle_s = options.idle_minutes * 60
        self.process = FileProcess(inbox, settings.first_model, output, stop, idle_s, options.nice)
        self._after = AfterFile(options.after_file, inbox, self._tell)
        self._webhook = FileWebhook(options.notify, inbox, self._tell)
        self._daemon = Daemon(
            self._queue,
            options,
            settings.settings,
            self.process,
            stop,
            self._tell,
            once=once,
            held_back=held_back,
        )
        self._watchdog, self._wake = Watchdog(inbox), FolderWake(inbox.path)
        self.heart = Heart()

    def run(self) -> int:
        """Serve the inbox until it is asked to stop; returns the exit code."""
        self._daemon.recover()
        self._watchdog.ready()
        while True:
            began_s = time.monotonic()
            step = self._daemon.step(began_s)
            self._look()
            if step.code is not None and (self._after.is_idle or self._stop.by):
                return step.code
            if not self._stop.by:
                self.process.look(time.monotonic())
            sleep_s = step.sleep_s if step.code is None else _POLL_S
            # However many files come, most of the time is for other programs.
            rest_s = _REST * (time.monotonic() - began_s)
            answers = self.process.answers
            self._wake.sleep(sleep_s, rest_s, lambda: bool(self._stop.by), answers)

    def close(self) -> None:
        """End what runs beside the daemon."""
        self._webhook.wait(_NOTICE_S)
        self._wake.close()
        self._watchdog.stopping()
        self.process.close()
        self._daemon.close()
        self._queue.close()

    def _look(self) -> None:
        self._after.look()
        self._webhook.look()
        self._watchdog.look(self._daemon.job)
        self.heart.beat()

    def _tell(self, notice: InboxNotice) -> None:
        self._say(notice)
        self._log.write(*notice_lines(notice))
        self._webhook.post(notice)
        if notice.job and notice.job.ended_at:
            self._after.add(notice.job)


def _room(rules: RoomRules) -> GpuRoom | None:
    """What is looked at on the GPUs; None if nothing was asked for.

    Raises:
        UsageError: something was, and there is no GPU.
    """
    if not rules:
        return None
    probe = GpuProbe()
    if not probe():
        raise UsageError(
            "gpu_memory and give_way need a GPU",
            cause=Cause.NO_DEVICE,
            have="nvidia-smi shows none",
            need="an NVIDIA GPU and its driver",
            remedies=(
                Remedy("without gpu_memory and give_way", "here or in headway.yaml"),
                Remedy("headway doctor", "shows which GPU is there"),
            ),
        )
    return GpuRoom(rules, probe, own_processes)


def _already_served(folder: Path, owner: Owner | None) -> ComeBack:
    inbox = shlex.quote(str(folder.parent))
    return ComeBack(
        f"{folder.parent} is already served by another daemon",
        cause=Cause.LOCKED,
        have=f"process {owner.pid} on {owner.host}" if owner else "another process",
        need="one daemon for an inbox",
        remedies=(
            Remedy(f"headway inbox status {inbox}", "what it is doing"),
            Remedy(f"headway inbox stop {inbox}", "saves and stops it"),
        ),
    )
