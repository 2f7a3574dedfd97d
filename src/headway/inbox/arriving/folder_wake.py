"""Wake of the daemon: a wait that ends early when a file was closed in the inbox, or moved into it.

Nothing is decided by it. What lies in the inbox, the scan says, which also finds what no event
tells of: a file on a network, one that another host wrote, one whose event was lost.
"""

import contextlib
import ctypes
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE, _IN_ONLYDIR = 0x8, 0x80, 0x100, 0x01000000
_EVENTS = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE
_SLICE_S = 0.1  # of a sleep: how long a stop may go unnoticed
_QUIET_S = 0.05  # after an event: many files arrive at once


class FolderWake:
    """Waits, but not past the arrival of a file.

    Args:
        folder: of the inbox.
    """

    def __init__(self, folder: Path) -> None:
        self._events = _watch(folder)

    @property
    def is_told(self) -> bool:
        """Whether the system tells of files; else each wait takes its full time."""
        return self._events >= 0

    def sleep(
        self,
        limit_s: float,
        rest_s: float,
        is_over: Callable[[], bool],
        answers: Sequence[int] = (),
    ) -> None:
        """Sleep until something came, or for `limit_s`.

        Args:
            limit_s: the most.
            rest_s: the least, whatever comes: files may come in crowds, and a look takes time.
            is_over: ends it at once.
            answers: descriptors; one that can be read ends it at once.
        """
        began_s = time.monotonic()
        came = False
        while not is_over():
            spent_s = time.monotonic() - began_s
            if spent_s >= limit_s or (came and spent_s >= rest_s):
                return
            came = self.wait(min(limit_s - spent_s, _SLICE_S), answers) or came
            if answers and select.select(answers, [], [], 0.0)[0]:
                return

    def wait(self, limit_s: float, answers: Sequence[int] = ()) -> bool:
        """Wait; returns whether a file came, or was closed, since the last wait.

        Args:
            limit_s: the most.
            answers: descriptors that end it, too.
        """
        own = [self._events] if self._events >= 0 else []
        if not own and not answers:
            time.sleep(limit_s)
            return False
        ready = select.select([*own, *answers], [], [], max(limit_s, 0.0))[0]
        if self._events not in ready:
            return False
        time.sleep(min(_QUIET_S, max(limit_s, 0.0)))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._events, 1 << 16):
                pass
        return True

    def close(self) -> None:
        """Stop to watch the folder."""
        if self._events >= 0:
            os.close(self._events)
            self._events = -1


def _watch(folder: Path) -> int:
    """A descriptor to read events of a folder from; -1 where the system has none to give."""
    if sys.platform != "linux":
        return -1
    libc = ctypes.CDLL(None, use_errno=True)
    events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if events < 0:  # the user's watches are used up, or the kernel has none
        return -1
    if libc.inotify_add_watch(events, os.fsencode(folder), _EVENTS | _IN_ONLYDIR) < 0:
        os.close(events)
        return -1
    return int(events)
