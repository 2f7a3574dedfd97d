"""File process: the process that trains files, as the daemon starts, asks and ends it."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from headway.base.errors import MachineError
from headway.base.files import cache_folder
from headway.base.process import ChildProcess, Stop
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.options import FirstModel
from headway.inbox.training_process import FileAnswer, FileRequest, Output

_MODULE = "headway.inbox.training_process"
_MOST_LOGGED = 1 << 20  # bytes of a process's last words; then another one takes its place


class FileProcess:
    """Trains one file at a time, in a process that has imported everything for the next one.

    Args:
        inbox: whose state folder takes its last words.
        first_model: the model that the inbox began with.
        output: how the training is shown, on this process's own output.
        stop: whose signal it gets, if there was one.
        idle_s: how long the process is kept without a file, seconds; 0: it is not kept at all.
        nice: how much other programs come first, up to 19.
    """

    def __init__(
        self,
        inbox: InboxFolder,
        first_model: FirstModel,
        output: Output,
        stop: Stop,
        idle_s: float = 0.0,
        nice: int = 0,
    ) -> None:
        self._inbox = inbox
        self._first_model = first_model
        self._output = output
        self._stop = stop
        self._idle_s, self._nice = idle_s, nice
        self._child: AnsweringProcess | None = None
        self._is_training = self._is_measuring = False
        self._is_spent = False  # it was asked to stop, and may hear of it late
        self._idle_since_s: float | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is a process, which has memory."""
        return self._child is not None

    @property
    def answers(self) -> tuple[int, ...]:
        """Descriptors that can be read once there is an answer; none while none is awaited."""
        is_awaited = self._is_training or self._is_measuring
        return (self._child.answers,) if self._child and is_awaited else ()

    @property
    def is_measuring(self) -> bool:
        """Whether what is still known after the last file is being measured."""
        if self._is_measuring and not self._is_training and self._take_answers():
            self.close()  # it died
        return self._is_measuring

    def start(self, request: FileRequest) -> None:
        """Start with a file."""
        self._prepare()
        assert self._child is not None
        self._is_training, self._idle_since_s = True, None
        request = replace(request, first_model=self._first_model, output=self._output)
        self._child.process.send(request)

    def end(self) -> TrainingEnd | None:
        """How it ended; None while it is at work."""
        end = self._take_answers()
        if end is None:
            return None
        self._is_training, self._is_measuring = False, end.is_measuring
        if self._is_spent or not (self._child and self._child.process.is_running):
            self.close()
        return end

    def _take_answers(self) -> TrainingEnd | None:
        """How the file ended, if it did; what was measured beside ended before."""
        for answer in self._child.take_answers() if self._child else ():
            if answer.end:
                return answer.end
            self._is_measuring = False
        return None

    def ask_to_stop(self) -> None:
        """Ask it to save and end, by the signal that this process got."""
        if self._child:
            self._is_spent = True
            self._child.process.send_signal(self._stop.signal or signal.SIGTERM)

    def look(self, now_s: float) -> None:
        """Have a process ready for the next file, and end one that had nothing to do for long.

        Args:
            now_s: monotonic.
        """
        if self._is_training or self.is_measuring:
            return
        if self._idle_since_s is None:
            self._idle_since_s = now_s
            if self._idle_s:
                self._prepare()
        if now_s - self._idle_since_s >= self._idle_s:
            self.close()

    def close(self) -> None:
        """End it."""
        if self._child:
            self._child.close()
        self._child = None
        self._is_training = self._is_measuring = self._is_spent = False

    def _prepare(self) -> None:
        if self._child and not self._child.is_fit:
            self.close()
        self._child = self._child or AnsweringProcess(
            self._inbox, self._nice, is_warm=self._idle_s > 0
        )


class AnsweringProcess:
    """A training process with the descriptor on which it answers.

    Args:
        inbox: whose state folder takes its last words.
        nice: how much other programs come first, up to 19.
        is_warm: it imports everything at once.

    Attributes:
        answers: a descriptor that can be read once there is an answer.
    """

    def __init__(self, inbox: InboxFolder, nice: int, *, is_warm: bool) -> None:
        self._received = b""
        self.answers, theirs = os.pipe()
        os.set_blocking(self.answers, False)
        try:
            self.process = ChildProcess(
                _MODULE,
                [str(theirs), str(nice), *([str(inbox.state)] if is_warm else [])],
                environment=writable_environment(inbox),
                log=inbox.state / "training.err",
                stdin=subprocess.PIPE,
                descriptors=(theirs,),
            )
        finally:
            os.close(theirs)

    @property
    def is_fit(self) -> bool:
        """Whether it can take one more file, and what it wrote about others is not too much."""
        log = self.process.log
        assert log is not None, "it was started with one"
        return self.process.is_running and log.stat().st_size < _MOST_LOGGED

    def take_answers(self) -> Iterator[FileAnswer]:
        """What it has said since the last call, up to how a file ended; its death, as an end."""
        code = self.process.exit_code  # first: what it said before it ended is read below
        with contextlib.suppress(BlockingIOError):
            self._received += os.read(self.answers, 1 << 20)
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            yield msgspec.json.decode(line, type=FileAnswer)
        if code is not None:
            yield FileAnswer(TrainingEnd(code, self.process.last_refusal()))

    def close(self) -> None:
        """End it."""
        self.process.end()
        os.close(self.answers)


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
