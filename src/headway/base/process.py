"""Child processes: start, signal, restart, stop, and messages between parent and child."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, TypeVar

import msgspec

from headway.base.addresses import hide_credentials
from headway.base.errors import Exit, Refusal, RefusalMessage, message_of

PULSE_VARIABLE = "HEADWAY_PULSE"
REPORT_VARIABLE = "HEADWAY_REPORT_FD"
Spawn = Callable[..., "subprocess.Popen[bytes]"]
T = TypeVar("T")

_POLL_S = 0.05


class Left(BaseException):
    """A stop was requested while nothing had to be finished."""


def exit_now(number: signal.Signals) -> NoReturn:
    """End the process immediately: what a program does on a second signal."""
    os._exit(Stop.CODES[number])


def raise_now(number: signal.Signals) -> NoReturn:
    """Abandon the call immediately: what a library does on a second signal.

    Raises:
        KeyboardInterrupt: it was Ctrl+C.
        SystemExit: it was another signal.
    """
    raise KeyboardInterrupt if number is signal.SIGINT else SystemExit(Stop.CODES[number])


class Stop:
    """Whether a stop was requested, by what and when."""

    CODES = {  # noqa: RUF012 - a constant
        signal.SIGINT: Exit.INTERRUPTED,
        signal.SIGTERM: Exit.COME_BACK,
        signal.SIGUSR1: Exit.COME_BACK,
    }

    def __init__(self) -> None:
        self.by = ""
        self.code = Exit.KEPT
        self.asked_s = 0.0
        self.signal: signal.Signals | None = None  # the first one, if there was any
        self._leave_after_s: float | None = None  # None: what is running must finish
        self._before_leaving: list[Callable[[], None]] = []

    def ask(self, by: str, code: Exit) -> None:
        """Record the first request; later ones change nothing."""
        if not self.by:
            self.by, self.code, self.asked_s = by, code, time.monotonic()

    def since_s(self) -> float:
        """Seconds since the request; 0 while there is none."""
        return time.monotonic() - self.asked_s if self.by else 0.0

    @contextmanager
    def may_leave(self, after_s: float = 0.0) -> Generator[None]:
        """Mark code that does not have to finish: a stop ends it in the middle.

        The computation ends at the next line of Python, so a long load or evaluation cannot
        outlast the grace period. For the main thread only, which receives the signals.

        Args:
            after_s: how long after the request it may still run, seconds.

        Raises:
            Left: a stop is requested, now or before, and that time is over.
        """
        outer, self._leave_after_s = self._leave_after_s, after_s
        handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
        try:
            self._leave_if_due()
            yield
        finally:
            self._leave_after_s = outer
            if signal.getsignal(signal.SIGALRM) is not handler:
                signal.setitimer(signal.ITIMER_REAL, *timer)
                signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)

    @contextmanager
    def must_stay(self) -> Generator[None]:
        """Mark code that a stop must not end, inside of what it may: others do it, too."""
        outer, self._leave_after_s = self._leave_after_s, None
        try:
            yield
        finally:
            self._leave_after_s = outer

    def _leave_if_due(self, *_: object) -> None:
        if self._leave_after_s is None or not self.by:
            return
        left_s = self._leave_after_s - self.since_s()
        if left_s <= 0:
            raise Left
        signal.signal(signal.SIGALRM, self._leave_if_due)
        signal.setitimer(signal.ITIMER_REAL, left_s)

    @contextmanager
    def before_leaving(self, clean_up: Callable[[], None]) -> Generator[None]:
        """Call `clean_up` if a second signal ends the process in here."""
        self._before_leaving.append(clean_up)
        try:
            yield
        finally:
            self._before_leaving.remove(clean_up)

    @contextmanager
    def listening(
        self, leave: Callable[[signal.Signals], NoReturn] = exit_now
    ) -> Generator["Stop"]:
        """Take Ctrl+C, SIGTERM and SIGUSR1 as requests to stop; restore the handlers at the end.

        A hang-up of the terminal is ignored meanwhile. Signals reach the main thread only;
        elsewhere this does nothing.

        Args:
            leave: called on a second signal; must not return.

        Raises:
            Left: in the main thread, where it `may_leave`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        listening = True

        def handle(number: int, _frame: object) -> None:
            if listening:
                self._take(signal.Signals(number), leave)

        handlers = dict.fromkeys(self.CODES, handle) | {signal.SIGHUP: signal.SIG_IGN}
        # A handler that was not installed from Python reads as None and could not be restored.
        before = {n: h for n in handlers if (h := signal.getsignal(n)) is not None}
        try:
            for number in before:
                signal.signal(number, handlers[number])
            accept_stops()
            yield self
        finally:
            listening = False  # nothing may be raised before all handlers are back
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: signal.Signals, leave: Callable[[signal.Signals], NoReturn]) -> None:
        if self.signal is not None:
            for clean_up in reversed(self._before_leaving):
                clean_up()
            leave(number)
        self.signal = number
        self.ask(number.name, self.CODES[number])
        self._leave_if_due()


class Report(msgspec.Struct, frozen=True):  # a dataclass cannot have a part that is still JSON
    """What a child process ends with: an answer, or why there is none."""

    answer: msgspec.Raw = msgspec.Raw(b"null")
    refused: RefusalMessage | None = None


@dataclass(frozen=True)
class RestartPolicy:
    """How often a process may be replaced.

    Attributes:
        max_restarts: without progress in between.
    """

    max_restarts: int = 0


class ChildProcess:
    """A Headway module running in its own process.

    Args:
        module: what `python -m` runs.
        arguments: its arguments.
        environment: its variables; None for those of this process.
        pulse: the file that it writes its pulse to.
        log: a file that keeps its standard error.
        log_stdout: keep its standard output there too.
        stdin, stdout: as for `subprocess.Popen`.
        descriptors: more of this process's open ones that it inherits, under the same numbers.
        own_session: start it in a session of its own, where the terminal's Ctrl+C does not reach.
        restarts: how often `restart` may replace it.
        spawn: starts it, as `subprocess.Popen` does.

    Attributes:
        num_restarts: how often it was replaced so far.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        pulse: Path | None = None,
        log: Path | None = None,
        log_stdout: bool = False,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        descriptors: Sequence[int] = (),
        own_session: bool = True,
        restarts: RestartPolicy = RestartPolicy(),
        spawn: Spawn = subprocess.Popen,
    ) -> None:
        self.log, self._spawn = log, spawn
        self.num_restarts = 0
        # -P, and the variable for its own children: no module is imported from the working folder.
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._environment = dict(os.environ if environment is None else environment)
        self._environment["PYTHONSAFEPATH"] = "1"
        self._environment["PYTHONUTF8"] = "1"  # text files are UTF-8 in any locale
        if path := self._environment.get("PYTHONPATH"):  # an empty entry is that folder, too
            self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, path.split(os.pathsep)))
        self._environment.pop(PULSE_VARIABLE, None)
        if pulse:
            self._environment[PULSE_VARIABLE] = str(pulse)
        self._log_stdout = log_stdout
        self._stdin, self._stdout, self._descriptors = stdin, stdout, tuple(descriptors)
        self._own_session = own_session
        self._restarts = restarts
        self._num_without_progress = 0
        self._received = bytearray()
        self._process, self._reports = self._start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def send(self, message: object) -> None:
        """Send a line of JSON to its standard input; nothing if it has ended."""
        pipe = self._process.stdin
        assert pipe is not None, "it was started with a pipe"
        with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: closed below
            try:
                pipe.write(msgspec.json.encode(message) + b"\n")
                pipe.flush()
            except BrokenPipeError:
                pipe.close()  # else what is left would be flushed, and fail, once more

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from its standard output."""
        assert self._process.stdout is not None, "it was started with a pipe"
        return self._process.stdout

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; None while it is running."""
        code = self._process.poll()  # first: what it sent before it ended is read below
        # Read while it runs: a pipe holds less than a report may be long.
        while not self._reports.closed and (piece := self._reports.read(1 << 20)):
            self._received += piece
        return code

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.exit_code is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still running."""
        if self.is_running:
            self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it ends; returns its exit code."""
        while (code := self.exit_code) is None:
            self.wait_up_to(_POLL_S)
        return code

    def wait_up_to(self, limit_s: float) -> None:
        """Wait for so long, or until it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)

    def end(self, wait_s: float = 2.0) -> None:
        """Kill it if it is still running, and close its pipes."""
        self.send_signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel holds it: it dies later
            self._process.wait(wait_s)
        _ = self.exit_code  # what it reported before
        for pipe in (self._process.stdin, self._process.stdout, self._reports):
            if pipe:
                with contextlib.suppress(OSError):  # it died before it read what was written
                    pipe.close()

    def restart(self) -> bool:
        """End it and start it again.

        Returns:
            Whether it was; False when it was restarted often enough without progress.
        """
        self.end()
        if self._num_without_progress >= self._restarts.max_restarts:
            return False
        self._num_without_progress += 1
        self.num_restarts += 1
        self._process, self._reports = self._start()
        return True

    def report_progress(self) -> None:
        """Record that it got somewhere: it may be restarted as often as at first."""
        self._num_without_progress = 0

    def last_words(self) -> list[str]:
        """The lines in its log, as they may be shown."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        return [hide_credentials(line) for line in text.strip().splitlines()]

    def answer(self, kind: type[T]) -> T | None:
        """What it sent by `send_answer`, once it has ended; None if nothing, or only a part."""
        report = self._report()
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(report.answer, type=kind)
        return None

    def last_refusal(self) -> RefusalMessage | None:
        """What it sent by `report_refusal`, once it has ended; None if nothing."""
        return self._report().refused

    def _report(self) -> Report:
        with contextlib.suppress(msgspec.MsgspecError):  # it was killed before or while it wrote
            return msgspec.json.decode(self._received, type=Report)
        return Report()

    def _start(self) -> tuple["subprocess.Popen[bytes]", IO[bytes]]:
        self._received.clear()
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        with contextlib.ExitStack() as files:
            files.callback(os.close, theirs)
            log = files.enter_context(self.log.open("wb")) if self.log else None
            # Until it has handlers, a stop would end it somewhere in Python's own start.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, Stop.CODES)
            files.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            process = self._spawn(
                self._command,
                stdin=self._stdin,
                stdout=log if self._log_stdout else self._stdout,
                stderr=log,
                env={**self._environment, REPORT_VARIABLE: str(theirs)},
                start_new_session=self._own_session,
                pass_fds=(theirs, *self._descriptors),
            )
        return process, open(ours, "rb", buffering=0)  # noqa: PTH123 - a descriptor


def accept_stops() -> None:
    """Take the requests to stop that a `ChildProcess` was sent while it started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, Stop.CODES)


def send_answer(answer: object) -> None:
    """Send an answer to the process that started this one; started by hand, print it.

    It goes through a pipe: that needs no disk, and nobody else can write to it.
    """
    encoded = msgspec.json.encode(answer)
    if not _send(Report(answer=msgspec.Raw(encoded))):
        sys.stdout.write(f"{encoded.decode()}\n")


def report_refusal(refusal: Refusal) -> None:
    """Send a refusal to the process that started this one; started by hand, print it."""
    if not _send(Report(refused=message_of(refusal))):
        sys.stderr.write(f"{refusal}\n")


def _send(report: Report) -> bool:
    """Send a report; False if nobody started this process to get one."""
    descriptor = os.environ.get(REPORT_VARIABLE)
    if descriptor is None:
        return False
    # OSError: the other process is gone
    with contextlib.suppress(OSError), open(int(descriptor), "wb", closefd=False) as pipe:
        pipe.write(msgspec.json.encode(report))
    return True
