"""File process: the training process of a file, as the daemon starts and asks it."""

import os
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from headway.base.errors import MachineError
from headway.base.files import cache_folder
from headway.base.process import ChildProcess, Stop
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.options import FirstModel
from headway.inbox.training_process import FileRequest, Output


class FileProcess:
    """Trains one file at a time, in a process of its own.

    Args:
        inbox: whose state folder takes its last words.
        first_model: the model that the inbox began with.
        output: how the training is shown, on this process's own output.
        stop: whose signal it gets, if there was one.
    """

    def __init__(
        self, inbox: InboxFolder, first_model: FirstModel, output: Output, stop: Stop
    ) -> None:
        self._inbox = inbox
        self._first_model = first_model
        self._output = output
        self._stop = stop
        self._child: ChildProcess | None = None

    def start(self, request: FileRequest) -> None:
        """Start with a file."""
        self._child = ChildProcess(
            "headway.inbox.training_process",
            environment=writable_environment(self._inbox),
            log=self._inbox.state / "training.err",
            stdin=subprocess.PIPE,
        )
        self._child.send(replace(request, first_model=self._first_model, output=self._output))

    def end(self) -> TrainingEnd | None:
        """How it ended; None while it is at work."""
        child = self._child
        if child is None or (code := child.exit_code) is None:
            return None
        child.end()
        self._child = None
        return TrainingEnd(code, child.last_refusal())

    def ask_to_stop(self) -> None:
        """Ask it to save and end, by the signal that this process got."""
        if self._child:
            self._child.send_signal(self._stop.signal or signal.SIGTERM)

    def close(self) -> None:
        """End it."""
        if self._child:
            self._child.end()
            self._child = None


def writable_environment(inbox: InboxFolder) -> dict[str, str]:
    """Variables for a process that may only be able to write into the inbox.

    A service may run as a user without a home, and on a read-only system.
    """
    environment = dict(os.environ)
    if not _takes_files(_cache()):
        environment["XDG_CACHE_HOME"] = str(inbox.state / "cache")
    try:
        tempfile.gettempdir()
    except OSError:
        folder = inbox.state / "tmp"
        folder.mkdir(exist_ok=True)
        environment["TMPDIR"] = str(folder)
    return environment


def _cache() -> Path | None:
    try:
        return cache_folder()
    except MachineError:
        return None


def _takes_files(folder: Path | None) -> bool:
    if folder is None:
        return False
    place = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(place, os.W_OK | os.X_OK)
