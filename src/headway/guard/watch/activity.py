"""Activity of a command's processes: processor, disks, network and memory, between two looks."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headway.guard.watch.network import received_bytes

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
COMPUTES = 0.1  # cores from which it counts as computing; a busy machine gives no more
READS = 1.0  # bytes per second from which it counts as reading from the network
MOVES = 50_000.0  # bytes per second from which it counts as reading or writing files


@dataclass(frozen=True)
class Counters:
    """The kernel's counters of some processes at one time.

    Attributes:
        at_s: seconds, monotonic.
        cpu_s: by process.
        read, written: bytes from and to disks, by process.
        copied: bytes that went through read and write, of files, pipes and sockets, by process.
        received: bytes, by connection; None where the kernel does not tell.
        memory_bytes: resident, of all of them.
        states: the kernel's letters of their main threads.
    """

    at_s: float
    cpu_s: dict[int, float] = field(default_factory=dict[int, float])
    read: dict[int, int] = field(default_factory=dict[int, int])
    written: dict[int, int] = field(default_factory=dict[int, int])
    copied: dict[int, int] = field(default_factory=dict[int, int])
    received: dict[int, int] | None = None
    memory_bytes: int = 0
    states: str = ""


@dataclass(frozen=True)
class TreeActivity:
    """What some processes did between two looks.

    Attributes:
        seconds: between them.
        cores: that they used.
        read_per_s, written_per_s: bytes, from and to disks.
        received_per_s: bytes, from connections.
        copied_per_s: bytes, through read and write.
        memory_bytes: resident, at the end.
        states: the kernel's letters of their main threads, at the end.
    """

    seconds: float
    cores: float = 0.0
    read_per_s: float = 0.0
    written_per_s: float = 0.0
    received_per_s: float = 0.0
    copied_per_s: float = 0.0
    memory_bytes: int = 0
    states: str = ""

    @property
    def is_idle(self) -> bool:
        """Whether it neither computes nor moves data."""
        return (
            self.cores < COMPUTES
            and self.received_per_s < READS
            and self.read_per_s < MOVES
            and self.written_per_s < MOVES
            and self.copied_per_s < MOVES
        )


def read_counters(pids: Sequence[int], now_s: float) -> Counters:
    """Look at processes; takes some 50 microseconds for each. One that has ended is left out."""
    if sys.platform != "linux":
        return _portable_counters(pids, now_s)
    cpu: dict[int, float] = {}
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    copied: dict[int, int] = {}
    memory, states = 0, ""
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        cpu[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
        memory += int(fields[21]) * _PAGE
        states += fields[0].decode()
        with contextlib.suppress(OSError, ValueError):  # another user's
            lines = Path(f"/proc/{pid}/io").read_bytes().split()
            values = dict(zip(lines[::2], map(int, lines[1::2]), strict=False))
            read[pid], written[pid] = values[b"read_bytes:"], values[b"write_bytes:"]
            copied[pid] = values[b"rchar:"] + values[b"wchar:"]
    return Counters(now_s, cpu, read, written, copied, received_bytes(pids), memory, states)


def _portable_counters(pids: Sequence[int], now_s: float) -> Counters:
    import psutil

    cpu: dict[int, float] = {}
    memory = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            used = process.cpu_times()
            cpu[pid] = used.user + used.system
            memory += process.memory_info().rss
    return Counters(now_s, cpu, memory_bytes=memory)


def activity_between(before: Counters, after: Counters) -> TreeActivity:
    """What lies between two looks; what a new process has used so far counts, too."""
    seconds = max(after.at_s - before.at_s, 1e-3)

    def rate(
        old: dict[int, float] | dict[int, int], new: dict[int, float] | dict[int, int]
    ) -> float:
        return sum(max(value - old.get(key, 0), 0) for key, value in new.items()) / seconds

    return TreeActivity(
        seconds,
        cores=rate(before.cpu_s, after.cpu_s),
        read_per_s=rate(before.read, after.read),
        written_per_s=rate(before.written, after.written),
        received_per_s=rate(before.received or {}, after.received or {}),
        copied_per_s=rate(before.copied, after.copied),
        memory_bytes=after.memory_bytes,
        states=after.states,
    )
