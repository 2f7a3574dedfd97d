"""An inbox as a systemd service: its unit, and a watchdog that is fed by progress alone."""

import contextlib
import getpass
import sys
import time
from collections.abc import Callable

from headway.base.errors import UsageError
from headway.base.host.notify import notify, watchdog_s
from headway.inbox.folder import InboxFolder
from headway.inbox.inbox_status import run_of
from headway.inbox.jobs.inbox_job import InboxJob

WATCHDOG_MIN = 30  # longer than any phase that shows no progress
_UNIT = """\
# As root:
#
#   cp THIS /etc/systemd/system/headway-inbox.service
#   systemctl enable --now headway-inbox
#   journalctl -fu headway-inbox

[Unit]
Description=Headway inbox {path}
After=network-online.target remote-fs.target
Wants=network-online.target
StartLimitIntervalSec=1h
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={path}
ExecStart={program} {arguments}

# Fed by finished steps and by phases that make progress, never by a clock: what is stuck is killed,
# and continues from its last checkpoint.
WatchdogSec={watchdog}min

# SIGTERM for the daemon alone, which saves; what still runs after this time is killed.
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=90

# 75 and 130: saved, as it was asked to. 2 and 3: the settings; the same again would end the same.
Restart=on-failure
RestartSec=30
SuccessExitStatus=75 130
RestartPreventExitStatus=2 3
OOMPolicy=continue

# Only the inbox is written to.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={listed}
PrivateTmp=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


def unit(inbox: InboxFolder, words: list[str], user: str = "", program: str = "") -> str:
    """The text of a systemd unit.

    Args:
        inbox: to serve.
        words: of the command line, after `headway`.
        user: that it runs as; by default the one who asks.
        program: by default this Python, with Headway in it.
    """
    own = f"{_quoted(sys.executable)} -m headway"
    return _UNIT.format(
        path=_escaped(str(inbox.path)),
        listed=_in_quotes(_escaped(str(inbox.path))),
        user=user or getpass.getuser(),
        program=program or own,
        arguments=" ".join(map(_quoted, words)),
        watchdog=WATCHDOG_MIN,
    )


def _quoted(word: str) -> str:
    """A word of a command as systemd reads it."""
    return _in_quotes(_escaped(word).replace("$", "$$"))


def _escaped(word: str) -> str:
    """A value as systemd reads it, which takes % for its own."""
    return word.replace("\\", "\\\\").replace("%", "%%")


def _in_quotes(word: str) -> str:
    return '"' + word.replace('"', '\\"') + '"' if any(c in word for c in " \t\"';") else word


class Watchdog:
    """Tells systemd that the daemon is ready, and each time that something has made progress.

    Args:
        inbox: whose runs are looked at.
        patience_s: systemd's; None if it does not wait.
        send: takes the lines.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        inbox: InboxFolder,
        patience_s: float | None = None,
        send: Callable[..., None] = notify,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._patience_s = watchdog_s() if patience_s is None else patience_s
        self._send = send
        self._clock = clock
        self._looked_s = -1e9
        self._mark: object = None

    def ready(self) -> None:
        """The inbox is served from now on."""
        self._send("READY=1", f"STATUS=serving {self._inbox.path}")

    def look(self, job: InboxJob | None) -> None:
        """Feed the watchdog if the file being trained has made progress since the last look.

        Args:
            job: whose file is being trained; None if nothing is: a scan is what there is to do.
        """
        if self._patience_s is None or self._clock() - self._looked_s < self._patience_s / 10:
            return
        self._looked_s = self._clock()
        mark = object() if job is None else self._mark_of(job)
        if mark != self._mark:
            self._mark = mark
            self._send("WATCHDOG=1")

    def _mark_of(self, job: InboxJob) -> object:
        """What changes when training makes progress: beats of a wait are not in it."""
        with contextlib.suppress(UsageError, OSError):
            status = run_of(self._inbox, job)
            if status:
                return job.number, status.attempt, status.phase, status.step, status.done
        return job.number, job.attempts

    def stopping(self) -> None:
        """The daemon saves and ends."""
        self._send("STOPPING=1")
