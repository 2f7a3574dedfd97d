"""File locks: who waits for which file, and who holds it."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headway.diagnose.evidence.facts import HeldLock
from headway.diagnose.evidence.kernel.proc_files import PROC, stat_fields, text_of

# "1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF", with "->" after the number for who waits
_LINE = re.compile(r"(\d+): (-> )?\w+\s+\w+\s+\w+\s+(-?\d+)\s+([0-9a-f]+:[0-9a-f]+:\d+)\s")


@dataclass(frozen=True)
class FileLocks:
    """The locks of the machine.

    Attributes:
        proc: the kernel's folder of processes.
        files: "MAJOR:MINOR:INODE" of each lock by its number.
        takers: the process that took each; it may have ended since.
        waiters: the processes that wait for each.
    """

    proc: Path
    files: dict[int, str]
    takers: dict[int, int]
    waiters: dict[int, list[int]]

    @classmethod
    def read(cls, proc: Path = PROC) -> "FileLocks":
        """All that the kernel lists."""
        locks = cls(proc, {}, {}, {})
        for line in text_of(proc / "locks").splitlines():
            if found := _LINE.match(line):
                number, pid = int(found[1]), int(found[3])
                locks.files[number] = found[4]
                if found[2]:
                    locks.waiters.setdefault(number, []).append(pid)
                else:
                    locks.takers[number] = pid
        return locks

    def awaited_by(self, pid: int) -> tuple[HeldLock, ...]:
        """The files that a process waits to lock."""
        return tuple(
            HeldLock(self._path(pid, number), self._holder(number))
            for number, pids in self.waiters.items()
            if pid in pids
        )

    def _holder(self, number: int) -> int | None:
        """Who holds a lock: who took it, or has inherited the descriptor from that process."""
        taker = self.takers.get(number, 0)
        if taker > 0 and stat_fields(self.proc / str(taker) / "stat")[:1] not in ([], ["Z"]):
            return taker
        for entry in self.proc.iterdir():
            if entry.name.isdecimal() and self._has_lock(entry, number):
                return int(entry.name)
        return None

    def _has_lock(self, process: Path, number: int) -> bool:
        with suppress(OSError):
            for info in (process / "fdinfo").iterdir():
                for line in text_of(info).splitlines():
                    found = _LINE.match(line.removeprefix("lock:").strip() + " ")
                    if found and not found[2] and found[4] == self.files[number]:
                        return True
        return False

    def _path(self, pid: int, number: int) -> str:
        """The path of the file that a process waits to lock, or its number."""
        process = self.proc / str(pid)
        with suppress(OSError):
            for entry in (process / "fd").iterdir():
                with suppress(OSError):
                    found = entry.stat()
                    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
                    if f"{device}:{found.st_ino}" == self.files[number]:
                        return str(entry.readlink())
        return f"file {self.files[number]}"
