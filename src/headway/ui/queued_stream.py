"""Queued stream: output that never waits for its reader.

A terminal that is stopped (Ctrl+S), or a pipe that nobody empties, blocks who writes to it. What
follows a run must not be blocked: signals and the ends of processes would go unnoticed. So a thread
writes, and text that is not taken yet waits in memory. Callers skip frames while `is_behind`, and
everything but the last lines once `is_full`.
"""

import io
import os
import select
import threading
import time
from collections import deque
from typing import TextIO

_PIECE_BYTES = 1024  # of one write: what is taken shows after each
_MOST_BYTES = 1 << 20  # that wait
_INSTANT_S = 0.05  # for a reader that is not behind; so text stays in order with that of others


class QueuedStream:
    """A text stream in front of a descriptor; `flush` waits for its reader only for an instant.

    Args:
        stream: the stream whose place it takes; only its descriptor is used from here on.
        writer: does the writing, for one stream or for several that show in the same place.
    """

    def __init__(self, stream: TextIO, writer: "Writer") -> None:
        stream.flush()
        self.encoding = stream.encoding
        self._errors = stream.errors or "strict"
        self._descriptor = stream.fileno()
        self._writer = writer
        self._text: list[str] = []

    @property
    def is_behind(self) -> bool:
        """Whether something has not been taken yet."""
        return self._writer.num_waiting > 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits that only last lines should be added."""
        return self._writer.num_waiting > _MOST_BYTES

    def write(self, text: str) -> int:
        """Add text; it is handed over by `flush`."""
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written.

        Raises:
            OSError: a write failed: the reader is gone, or the disk is full.
        """
        data = "".join(self._text).encode(self.encoding, self._errors)
        self._text.clear()
        self._writer.add(self._descriptor, data)

    def drain(self, patience_s: float) -> None:
        """Wait until everything is taken, or until nothing was taken for `patience_s` seconds."""
        self._writer.drain(patience_s)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The descriptor that it writes to."""
        return self._descriptor


class Writer:
    """The thread that writes, and what it still has to write."""

    def __init__(self) -> None:
        self.num_waiting = 0  # bytes
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._changed = threading.Condition()
        self._moved_s = time.monotonic()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def add(self, descriptor: int, data: bytes) -> None:
        """Queue bytes for a descriptor.

        Raises:
            OSError: a write failed.
        """
        with self._changed:
            was_behind = self.num_waiting > 0
            self._pieces.append((descriptor, data))
            self.num_waiting += len(data)
            if self._thread is None:
                # A daemon: the end of the process does not wait for a reader either.
                self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        if not was_behind:
            self.drain(_INSTANT_S)
        if self._error:
            raise self._error

    def drain(self, patience_s: float) -> None:
        """See `QueuedStream`."""
        began_s = time.monotonic()
        with self._changed:
            while self.num_waiting and not self._error:
                left_s = max(began_s, self._moved_s) + patience_s - time.monotonic()
                if left_s <= 0:
                    return
                self._changed.wait(left_s)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._pieces:
                        self._changed.wait()
                    descriptor, data = self._pieces.popleft()
                self._write(descriptor, data)
        except OSError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _write(self, descriptor: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                num = os.write(descriptor, left[:_PIECE_BYTES])
            except BlockingIOError:  # another program made it so
                select.select([], [descriptor], [])
                continue
            left = left[num:]
            with self._changed:
                self.num_waiting -= num
                self._moved_s = time.monotonic()
                self._changed.notify_all()


def queued(stdout: TextIO, stderr: TextIO) -> tuple[TextIO, TextIO]:
    """The two streams, queued where they have a descriptor of their own.

    Both share a writer where they show in the same place, so that lines stay in order.
    """
    writers: dict[tuple[int, int], Writer] = {}

    def queue(stream: TextIO) -> TextIO:
        if not isinstance(stream, io.TextIOWrapper):  # a notebook's, a test's
            return stream
        try:
            status = os.fstat(stream.fileno())
            writer = writers.setdefault((status.st_dev, status.st_ino), Writer())
            replaced: object = QueuedStream(stream, writer)
        except (OSError, ValueError):  # no descriptor, or closed
            return stream
        return replaced  # pyright: ignore[reportReturnType] - what a screen needs of a stream

    return queue(stdout), queue(stderr)
