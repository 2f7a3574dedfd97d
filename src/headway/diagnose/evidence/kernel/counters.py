"""Counters of a process and its threads, whose differences are rates."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import PROC, fields_of, stat_fields, whole

TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# Fields of /proc/PID/stat, counted from the state.
_MAJOR_FAULTS, _USER, _SYSTEM, _STARTED = 9, 11, 12, 19


@dataclass(frozen=True)
class ProcessCounters:
    """What the kernel has counted for a process so far.

    Attributes:
        started: when it did, in clock ticks: another process may get its number.
        cpu_s: of all its threads.
        major_faults: pages that had to be read from a disk.
        read_bytes, written_bytes: from and to disks; 0 for another user's process.
        thread_cpu_s: by thread.
    """

    started: int = 0
    cpu_s: float = 0.0
    major_faults: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    thread_cpu_s: Mapping[int, float] = field(default_factory=dict[int, float])


def read_counters(pid: int, proc: Path = PROC) -> ProcessCounters | None:
    """The counters of a process; None if it is gone."""
    process = proc / str(pid)
    fields = stat_fields(process / "stat")
    if len(fields) <= _STARTED:
        return None
    disk = fields_of(process / "io")
    return ProcessCounters(
        started=int(fields[_STARTED]),
        cpu_s=_cpu_s(fields),
        major_faults=int(fields[_MAJOR_FAULTS]),
        read_bytes=whole(disk.get("read_bytes", "")),
        written_bytes=whole(disk.get("write_bytes", "")),
        thread_cpu_s={
            tid: _cpu_s(found)
            for tid in thread_ids(process)
            if len(found := stat_fields(process / "task" / str(tid) / "stat")) > _SYSTEM
        },
    )


def thread_ids(process: Path) -> list[int]:
    """Its threads, the main thread first; none if it is gone."""
    try:
        found = [int(entry.name) for entry in (process / "task").iterdir()]
    except OSError:
        return []
    return sorted(found, key=lambda tid: (tid != int(process.name), tid))


def _cpu_s(fields: list[str]) -> float:
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / TICKS_PER_S
