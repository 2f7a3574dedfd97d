"""Output log: the beginning and the end of what a command printed."""

import os
import threading
from collections import deque
from pathlib import Path

HEAD_BYTES, TAIL_BYTES = 1_000_000, 1_000_000


class OutputLog:
    """Writer of output.log.

    The beginning is written as it comes. What comes later is kept in memory, the oldest of it
    forgotten, and written behind the beginning by `flush`. Errors are kept, not raised: a full
    disk must not end the command.

    Args:
        path: the file, which nobody else may read: output may hold anything.

    Attributes:
        problem: why it could not be written, the first time.
        forgotten: bytes between the beginning and the end.
    """

    def __init__(self, path: Path, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._head_left, self._tail_bytes = head, tail
        self._tail: deque[bytes] = deque()
        self._in_tail = self.forgotten = self._head_bytes = 0
        self._is_new = False
        self._lock = threading.Lock()
        self.problem: OSError | None = None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            self._file, self.problem = -1, error

    def add(self, data: bytes) -> None:
        """Take a piece of output; costs some microseconds."""
        head, rest = data[: self._head_left], data[self._head_left :]
        if head:
            self._head_left -= len(head)
            self._write(head, self._head_bytes)
            self._head_bytes += len(head)
        if rest:
            with self._lock:
                self._tail.append(rest)
                self._in_tail += len(rest)
                while self._in_tail - len(self._tail[0]) >= self._tail_bytes:
                    old = self._tail.popleft()
                    self._in_tail -= len(old)
                    self.forgotten += len(old)
                self._is_new = True

    def flush(self) -> None:
        """Write the end behind the beginning."""
        with self._lock:
            if not self._is_new:
                return
            self._is_new, tail = False, b"".join(self._tail)
            cut = len(tail) - self._tail_bytes
            forgotten = self.forgotten + max(cut, 0)
        mark = f"\n[{forgotten:,} bytes left out]\n".encode() if forgotten else b""
        self._write(mark + tail[max(cut, 0) :], self._head_bytes, truncate=True)

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes, at: int, *, truncate: bool = False) -> None:
        if self._file < 0 or self.problem:
            return
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], at + done)
            if truncate:
                os.ftruncate(self._file, at + len(data))
        except OSError as error:
            self.problem = error
