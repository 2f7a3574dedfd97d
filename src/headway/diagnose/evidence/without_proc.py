"""Processes without /proc, as on macOS: what psutil knows about them."""

import contextlib
import time
from dataclasses import replace

from headway.diagnose.evidence.facts import Link, OpenFile, ProcessFacts, ThreadFacts
from headway.diagnose.redaction import hide_arguments

# psutil's words for the kernel's letters
_STATES = {
    "running": "R",
    "sleeping": "S",
    "idle": "S",
    "disk-sleep": "D",
    "stopped": "T",
    "tracing-stop": "t",
    "zombie": "Z",
}


def look_at(pids: list[int], seconds: float) -> dict[int, ProcessFacts]:
    """Watch processes for a moment; those that are gone are left out."""
    first = {pid: _cpu_s(pid) for pid in pids}
    time.sleep(seconds)
    found = {pid: facts for pid in pids if (facts := _facts(pid))}
    for pid, facts in found.items():
        cpu = max(_cpu_s(pid) - first[pid], 0.0) / max(seconds, 1e-3)
        threads = tuple(replace(thread, cpu=cpu) for thread in facts.threads)
        found[pid] = replace(facts, cpu=cpu, threads=threads)
    return found


def _facts(pid: int) -> ProcessFacts | None:
    import psutil  # here: it would delay the first line of every command

    try:
        process = psutil.Process(pid)
        state = _STATES.get(process.status(), "S")
        facts = ProcessFacts(
            pid, process.ppid(), threads=(ThreadFacts(pid, process.name(), state),)
        )
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return ProcessFacts(pid, unread="it belongs to another user: sudo headway diagnose")
    with contextlib.suppress(psutil.Error):
        facts = replace(facts, command=hide_arguments(process.cmdline()))
        facts = replace(facts, memory_bytes=process.memory_info().rss)
        files = [OpenFile(one.fd, Link.FILE, one.path) for one in process.open_files()]
        sockets = [
            OpenFile(one.fd, Link.SOCKET, peer=f"{one.raddr[0]}:{one.raddr[1]}", state=one.status)
            for one in process.net_connections()
            if one.raddr
        ]
        facts = replace(facts, open_files=(*files, *sockets))
    return facts


def _cpu_s(pid: int) -> float:
    import psutil

    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0
