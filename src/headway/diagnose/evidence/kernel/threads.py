"""Threads of a process: their states, what they wait in, and the cores that they use."""

from collections.abc import Mapping
from pathlib import Path

from headway.diagnose.evidence.facts import ThreadFacts
from headway.diagnose.evidence.kernel.counters import thread_ids
from headway.diagnose.evidence.kernel.proc_files import stat_fields, text_of
from headway.diagnose.evidence.kernel.system_calls import system_call


def read_threads(process: Path, cpu: Mapping[int, float]) -> tuple[ThreadFacts, ...]:
    """The threads of a process, the main thread first; none if it is gone.

    Args:
        process: its folder in /proc.
        cpu: cores that each thread used while it was watched.
    """
    found: list[ThreadFacts] = []
    for tid in thread_ids(process):
        task = process / "task" / str(tid)
        if not (fields := stat_fields(task / "stat")):
            continue  # it ended meanwhile
        channel = text_of(task / "wchan").strip()
        call, descriptor = system_call(text_of(task / "syscall"))
        found.append(
            ThreadFacts(
                tid=tid,
                name=text_of(task / "comm").strip(),
                state=fields[0],
                wait_channel="" if channel == "0" else channel,
                call=call,
                descriptor=descriptor,
                cpu=cpu.get(tid, 0.0),
            )
        )
    return tuple(found)
