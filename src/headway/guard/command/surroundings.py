"""Surroundings of a command: the environment and signals that it would have without the guard.

Python changes some of them when it starts: it may set LC_CTYPE, it takes SIGINT, and it ignores
SIGPIPE. A command gets them as they were.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PYTHON_IGNORES = {signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)}


def original_environment() -> dict[bytes, bytes]:
    """The variables that this process was started with, in their order, bytes as they were."""
    if sys.platform == "linux":
        try:
            block = Path("/proc/self/environ").read_bytes()
        except OSError:
            return dict(os.environb)
        pairs = [entry.partition(b"=") for entry in block.split(b"\0") if b"=" in entry]
        return {name: value for name, _, value in pairs}
    return dict(os.environb)


@dataclass(frozen=True)
class Surroundings:
    """What a command inherits.

    Attributes:
        environment: its variables.
        ignored: signals that it ignores from the start, as under nohup.
        blocked: signals that are blocked from the start.
    """

    environment: Mapping[bytes, bytes]
    ignored: frozenset[int] = frozenset()
    blocked: frozenset[int] = frozenset()

    @classmethod
    def of_this_process(cls) -> "Surroundings":
        """As this process found them; call it before it sets handlers of its own."""
        ignored = {n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return cls(original_environment(), frozenset(ignored - _PYTHON_IGNORES), frozenset(blocked))

    def enter(self) -> None:
        """Give this process the signals of the command; called just before it becomes that."""
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) is None:
                continue  # a library's
            wanted = signal.SIG_IGN if number in self.ignored else signal.SIG_DFL
            signal.signal(number, wanted)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
