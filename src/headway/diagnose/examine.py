"""Examination: processes, their descendants and the machine, watched for a moment from outside."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from headway.base.pulse import PulseReading
from headway.diagnose.evidence.facts import Evidence, ProcessFacts
from headway.diagnose.evidence.kernel.counters import read_counters
from headway.diagnose.evidence.kernel.proc_files import PROC, text_of
from headway.diagnose.evidence.kernel.process_facts import ProcessReader
from headway.diagnose.evidence.kernel.process_tree import parents_by_pid, process_tree, tops
from headway.diagnose.evidence.machine_watch import MachineWatch
from headway.diagnose.evidence.roles import role_of
from headway.diagnose.evidence.side_jobs import SideJobs
from headway.diagnose.evidence.stacks.py_spy import Stacks, py_spy, read_stacks, with_stacks
from headway.diagnose.evidence.stacks.trace_permission import trace_problem
from headway.diagnose.evidence.without_proc import look_at

WHOLE_S = 1.8  # for everything
_PYTHON_STACKS_S = 1.0  # of that, the calls of Python; those of machine code get what is left
_NO_PY_SPY = "py-spy is not installed: pip install py-spy"


def examine(
    pids: Sequence[int],
    *,
    roles: Mapping[int, str] | None = None,
    pulses: Sequence[PulseReading] = (),
    folders: Sequence[Path] = (),
    silent_s: float = 0.0,
    missing: Sequence[int] = (),
    seconds: float = 0.5,
    native: bool = True,
    proc: Path = PROC,
) -> Evidence:
    """Read what processes, all their descendants and the machine do; takes less than 2 s.

    Processes that are gone are left out.

    Args:
        pids: the job's processes: the one in question first, then its workers by rank.
        roles: what they are in the job.
        pulses: of a run of Headway, by rank.
        folders: whose disks matter to the job.
        silent_s: how long nobody has seen progress.
        missing: ranks that are gone.
        seconds: how long to watch, for rates.
        native: read the calls of machine code, too.
        proc: the kernel's folder of processes.
    """
    began_s = time.monotonic()
    parents = parents_by_pid(proc)
    tree = process_tree(pids, parents)
    machine = MachineWatch(tops([pid for pid in pids if pid in parents], parents), folders, 1.0)
    found = _watched(tree, seconds, proc) if proc.is_dir() else look_at(tree, seconds)
    machine_facts = machine.facts()
    watched_s = time.monotonic() - began_s
    # Only now: py-spy takes time of the machine, and stops what it reads for a moment.
    found = _with_stacks(found, began_s + WHOLE_S, proc, native=native)
    disks, gpus = machine.disks_and_gpus(began_s + WHOLE_S)
    given = roles or {}
    return Evidence(
        processes=tuple(
            replace(facts, role=given.get(pid) or role_of(facts)) for pid, facts in found.items()
        ),
        machine=replace(machine_facts, disks=disks, gpus=gpus),
        pulses=tuple(pulses),
        now_s=time.monotonic(),
        watched_s=watched_s,
        silent_s=silent_s,
        missing=tuple(missing),
    )


def _watched(tree: Sequence[int], seconds: float, proc: Path) -> dict[int, ProcessFacts]:
    """The processes that are still there, without stacks."""
    before, began_s = {pid: read_counters(pid, proc) for pid in tree}, time.monotonic()
    time.sleep(seconds)
    after = {pid: read_counters(pid, proc) for pid in tree}
    reader = ProcessReader(time.monotonic() - began_s, proc)
    found = {pid: reader.read(pid, before[pid], after[pid]) for pid in tree}
    return {pid: facts for pid, facts in found.items() if facts}


def _with_stacks(
    found: Mapping[int, ProcessFacts], until_s: float, proc: Path, *, native: bool
) -> dict[int, ProcessFacts]:
    """The processes with their stacks: Python's calls of all first, then those of machine code."""
    program, known = py_spy(), dict(found)
    can_be_read: list[int] = []
    for pid, facts in found.items():
        if facts.main_thread.state == "Z" or not is_python(pid, facts, proc):
            continue
        problem = trace_problem(pid, proc) or ("" if program else _NO_PY_SPY)
        if problem:
            known[pid] = replace(facts, unread=problem)
        else:
            can_be_read.append(pid)

    def calls(pids: Sequence[int], limit_s: float, **how: bool) -> dict[int, Callable[[], Stacks]]:
        return {
            pid: partial(
                read_stacks, pid, _states(found[pid]), until_s=limit_s, program=program, **how
            )
            for pid in pids
        }

    python_s = min(time.monotonic() + _PYTHON_STACKS_S, until_s)
    python = SideJobs(calls(can_be_read, python_s, native=False)).results(python_s)
    better: dict[int, Stacks] = {}
    if native:
        readable = [pid for pid in can_be_read if pid in python and python[pid].threads]
        better = SideJobs(calls(readable, until_s, native=True)).results(until_s)
    for pid in can_be_read:
        stacks = python.get(pid, Stacks(problem="its stack could not be read in time"))
        if pid in better and better[pid].threads:
            stacks = better[pid]
        threads = with_stacks(known[pid].threads, stacks.threads, pid)
        known[pid] = replace(known[pid], threads=threads, unread=stacks.problem)
    return known


def _states(facts: ProcessFacts) -> list[str]:
    return [thread.state for thread in facts.threads] + (["t"] if facts.debugger else [])


def is_python(pid: int, facts: ProcessFacts, proc: Path = PROC) -> bool:
    """Whether a process runs Python, as a program or inside another one."""
    try:
        program = (proc / str(pid) / "exe").readlink().name
    except OSError:  # another user's, or no /proc
        program = Path(facts.command[0]).name if facts.command else ""
    if "python" in program.lower():
        return True
    return "libpython" in text_of(proc / str(pid) / "maps")
