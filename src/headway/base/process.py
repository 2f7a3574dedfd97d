"""What a process that computes shares with the one that watches it: go, stop, die together."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

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
    """Somebody asked to stop while nothing had to be finished."""


class Stop:
    """Whether somebody asked to stop, and since when."""

    CODES = {  # noqa: RUF012 - a constant
        signal.SIGINT: Exit.INTERRUPTED,
        signal.SIGTERM: Exit.COME_BACK,
        signal.SIGUSR1: Exit.COME_BACK,
    }

    def __init__(self) -> None:
        self.by = ""
        self.code = Exit.KEPT
        self.asked_s = 0.0
        self._may_leave = False

    def ask(self, by: str, code: Exit) -> None:
        """Take note of the first request; later ones change nothing."""
        if not self.by:
            self.by, self.code, self.asked_s = by, code, time.monotonic()

    def since_s(self) -> float:
        """Seconds since somebody asked; 0 while nobody has."""
        return time.monotonic() - self.asked_s if self.by else 0.0

    @contextmanager
    def may_leave(self) -> Generator[None]:
        """Nothing in here has to be finished: whoever asks to stop ends it in the middle.

        Whatever is being computed is left at the next line of Python, so that a long load or
        evaluation cannot outlast the grace. For the main thread alone, which hears the signals.

        Raises:
            Left: somebody asked, now or before.
        """
        self._may_leave = True
        try:
            if self.by:
                raise Left
            yield
        finally:
            self._may_leave = False

    def listen(self) -> None:
        """Ctrl+C, SIGTERM and SIGUSR1 ask; a second one of any kind leaves at once.

        Raises:
            Left: in the main thread, where it `may_leave`.
        """

        def asked(number: int, _frame: object) -> None:
            name = signal.Signals(number)
            if self.by in signal.Signals.__members__:
                os._exit(self.CODES[name])
            self.ask(name.name, self.CODES[name])
            if self._may_leave:
                raise Left

        for number in self.CODES:
            signal.signal(number, asked)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


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
