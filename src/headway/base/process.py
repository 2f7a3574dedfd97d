"""What a process that computes shares with the one that watches it: go, stop, die together."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from headway.base.errors import Exit

PULSE_VARIABLE = "HEADWAY_PULSE"
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER = 0x59616D61


@dataclass(frozen=True)
class Go:
    """What the supervisor tells a waiting worker."""

    run: str  # the folder, with plan.json in it
    attempt: int
    began_s: float  # CLOCK_MONOTONIC at the start of the attempt


class Left(BaseException):
    """A stop was requested while nothing had to be finished."""


def exit_now(number: signal.Signals) -> NoReturn:
    """End the process, whatever it is doing: what a program does on a second signal."""
    os._exit(Stop.CODES[number])


def raise_now(number: signal.Signals) -> NoReturn:
    """Abandon the call, whatever it is doing: what a library does on a second signal.

    Raises:
        KeyboardInterrupt: it was Ctrl+C.
        SystemExit: it was another signal.
    """
    raise KeyboardInterrupt if number is signal.SIGINT else SystemExit(Stop.CODES[number])


class Stop:
    """Whether a stop was requested, by whom and when."""

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
        self._may_leave = False
        self._before_leaving: list[Callable[[], None]] = []

    def ask(self, by: str, code: Exit) -> None:
        """Record the first request; later ones change nothing."""
        if not self.by:
            self.by, self.code, self.asked_s = by, code, time.monotonic()

    def since_s(self) -> float:
        """Seconds since the request; 0 while there is none."""
        return time.monotonic() - self.asked_s if self.by else 0.0

    @contextmanager
    def may_leave(self) -> Generator[None]:
        """Mark code that does not have to finish: a stop ends it in the middle.

        The computation ends at the next line of Python, so a long load or evaluation cannot
        outlast the grace period. For the main thread only, which receives the signals.

        Raises:
            Left: a stop is requested, now or before.
        """
        self._may_leave = True
        try:
            if self.by:
                raise Left
            yield
        finally:
            self._may_leave = False

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
        if self._may_leave:
            raise Left


def end_with_parent() -> None:
    """Die when the supervisor dies, however it dies; let it look at our stack (Linux)."""
    parent = os.getppid()
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_PTRACER, parent)
    if os.getppid() != parent:  # it died before we asked
        os._exit(Exit.BUG)
