"""Process facts: what /proc says about a process, and its rates between two looks."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from headway.diagnose.evidence.facts import OpenFile, ProcessFacts
from headway.diagnose.evidence.kernel.counters import ProcessCounters
from headway.diagnose.evidence.kernel.file_locks import FileLocks
from headway.diagnose.evidence.kernel.open_files import OpenFiles
from headway.diagnose.evidence.kernel.proc_files import PROC, fields_of, stat_fields, text_of, whole
from headway.diagnose.evidence.kernel.threads import read_threads
from headway.diagnose.redaction import hide_arguments


class ProcessReader:
    """Reader of processes; what all of them share is read once.

    Args:
        seconds: between the two looks.
        proc: the kernel's folder of processes.
    """

    def __init__(self, seconds: float, proc: Path = PROC) -> None:
        self._seconds = max(seconds, 1e-3)
        self._proc = proc
        self._locks = FileLocks.read(proc)
        self._open_files = OpenFiles()

    def read(
        self, pid: int, before: ProcessCounters | None, after: ProcessCounters | None
    ) -> ProcessFacts | None:
        """What is known of a process; None if it is gone.

        Args:
            pid: its number.
            before: its counters at the first look; None if it was not there.
            after: at the second one.
        """
        process = self._proc / str(pid)
        fields = stat_fields(process / "stat")
        if len(fields) < 2 or after is None:
            return None
        status = fields_of(process / "status")
        open_files, unread = self._read_open_files(process)
        # Another process may have got the number since, or it started between the two looks.
        first = before if before and before.started == after.started else None
        facts = ProcessFacts(
            pid=pid,
            parent=int(fields[1]),
            command=command_of(process),
            threads=read_threads(process, self._thread_cpu(first, after)),
            memory_bytes=1024 * whole(status.get("VmRSS", "")),
            swapped_bytes=1024 * whole(status.get("VmSwap", "")),
            debugger=whole(status.get("TracerPid", "")),
            open_files=open_files,
            locks=self._locks.awaited_by(pid),
            unread=unread,
        )
        return self._with_rates(facts, first, after) if first else facts

    def _with_rates(
        self, facts: ProcessFacts, first: ProcessCounters, after: ProcessCounters
    ) -> ProcessFacts:
        return replace(
            facts,
            cpu=self._rate(after.cpu_s - first.cpu_s),
            read_bytes_per_s=self._rate(after.read_bytes - first.read_bytes),
            written_bytes_per_s=self._rate(after.written_bytes - first.written_bytes),
            major_faults_per_s=self._rate(after.major_faults - first.major_faults),
        )

    def _thread_cpu(
        self, first: ProcessCounters | None, after: ProcessCounters
    ) -> Mapping[int, float]:
        earlier = first.thread_cpu_s if first else {}
        return {
            tid: self._rate(used - earlier[tid])
            for tid, used in after.thread_cpu_s.items()
            if tid in earlier
        }

    def _rate(self, difference: float) -> float:
        return max(difference, 0.0) / self._seconds

    def _read_open_files(self, process: Path) -> tuple[tuple[OpenFile, ...], str]:
        try:
            return self._open_files.read(process), ""
        except PermissionError:
            return (), _other_owner(process)
        except OSError:  # it is gone, or a zombie
            return (), ""


def command_of(process: Path) -> tuple[str, ...]:
    """The arguments of a process, secrets left out; its name in brackets where it has none."""
    words = text_of(process / "cmdline").removesuffix("\0").split("\0")
    if words != [""]:
        return hide_arguments(words)
    name = text_of(process / "comm").strip()
    return (f"[{name}]",) if name else ()


def _other_owner(process: Path) -> str:
    """Why another user's process cannot be read, and what allows it."""
    owner = -1
    with suppress(OSError):
        owner = process.stat().st_uid
    if owner in (-1, os.geteuid()):
        return "the system keeps it from being read: sudo headway diagnose"
    return f"it belongs to user {owner}: sudo headway diagnose --pid {process.name}"
