"""Inbox service: the daemon's lock, its signals, and the loop that sleeps for it."""

import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from headway.base.errors import Cause, ComeBack, Remedy
from headway.base.lock import Owner, RunLock
from headway.base.process import Stop
from headway.inbox.after_file import AfterFile
from headway.inbox.daemon import Daemon
from headway.inbox.file_process import FileProcess
from headway.inbox.folder import Disk, InboxFolder
from headway.inbox.jobs.queue import Queue
from headway.inbox.monitoring import HOST, Heart, monitored
from headway.inbox.notices import InboxNotice, NoticeKind
from headway.inbox.options import InboxSettings, save_first_model
from headway.inbox.systemd import Watchdog
from headway.inbox.training_process import Output

_SLICE_S = 0.1  # of a sleep: how long a stop may go unnoticed


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
        UsageError: a place in the inbox leads out of it, a record cannot be read, or the port is
            taken.
        MachineError: its folders cannot be made.
    """
    inbox.make()
    with RunLock(inbox.lock, taken=_already_served), Stop().listening() as stop:
        save_first_model(inbox, settings.first_model)
        queue = Queue(inbox, Disk())
        process = FileProcess(inbox, settings.first_model, output, stop)
        after = AfterFile(settings.options.after_file, inbox, say)

        def tell(notice: InboxNotice) -> None:
            say(notice)
            if notice.job and notice.job.ended_at:
                after.add(notice.job)

        daemon = Daemon(queue, settings.options, settings.settings, process, stop, tell, once=once)
        watchdog, heart = Watchdog(inbox), Heart()
        with monitored(inbox, port, heart) as found, stop.before_leaving(process.close):
            if found:
                text = f"answers http://{HOST}:{found}/metrics, /healthz and /progressz"
                say(InboxNotice(NoticeKind.LISTENING, text))
            try:
                daemon.recover()
                watchdog.ready()
                return _loop(daemon, stop, after, watchdog, heart)
            finally:
                watchdog.stopping()
                process.close()
                daemon.close()
                queue.close()


def _loop(daemon: Daemon, stop: Stop, after: AfterFile, watchdog: Watchdog, heart: Heart) -> int:
    while True:
        step = daemon.step(time.monotonic())
        after.look()
        watchdog.look(daemon.job)
        heart.beat()
        if step.code is not None and (after.is_idle or stop.by):
            return step.code
        for slice_s in _slices(step.sleep_s if step.code is None else _SLICE_S):
            if stop.by:
                break
            time.sleep(slice_s)


def _slices(sleep_s: float) -> Iterable[float]:
    while sleep_s > 0:
        yield min(sleep_s, _SLICE_S)
        sleep_s -= _SLICE_S


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
