"""Rotating log: what the daemon said, with the time, in files that never grow above a size."""

import contextlib
import itertools
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from headway.inbox.jobs.queue import utc_now

MOST_BYTES, NUM_OLD = 1_000_000, 3  # of a file; files beside the newest one


class RotatingLog:
    """Appends lines to a file; a full one becomes FILE.1, which becomes FILE.2, and so on.

    A disk that takes nothing is no reason to stop: the line is left out here, and was said anyway.

    Args:
        path: of the newest file.
        most_bytes: of each file.
        num_old: how many full files are kept.
        now: for the times.
    """

    def __init__(
        self,
        path: Path,
        most_bytes: int = MOST_BYTES,
        num_old: int = NUM_OLD,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._path, self._most_bytes, self._num_old, self._now = path, most_bytes, num_old, now

    def write(self, *lines: str) -> None:
        """Append lines, each with the time in front."""
        at = self._now().isoformat(timespec="seconds")
        data = "".join(f"{at} {line}\n" for line in lines).encode(errors="replace")
        data = data[: self._most_bytes]
        with contextlib.suppress(OSError):
            if self._size() + len(data) > self._most_bytes:
                self._rotate()
            # Not through a link: the daemon may be allowed to write where others are not.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._path, flags, 0o644)
            try:
                os.write(file, data)
            finally:
                os.close(file)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _rotate(self) -> None:
        names = [self._path, *(self._old(number) for number in range(1, self._num_old + 1))]
        for newer, older in reversed(list(itertools.pairwise(names))):
            if newer.exists():
                newer.replace(older)
        self._path.unlink(missing_ok=True)  # if none is kept

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
