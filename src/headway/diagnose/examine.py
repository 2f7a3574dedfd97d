"""Examination: processes, their descendants and the machine, watched for a moment from outside."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from headway.base.pulse import PulseReading
from headway.diagnose.evidence.facts import Evidence, ProcessFacts
from headway.diagnose.evidence.kernel.counters import read_counters
from headway.diagnose.evidence.kernel.proc_files import PROC, text_of
from headway.diagnose.evidence.kernel.process_facts import ProcessReader
from headway.diagnose.evidence.kernel.process_tree import parents_by_pid, process_tree, tops
from headway.diagnose.evidence.kernel.text_position import with_lines
from headway.diagnose.evidence.kernel.used_folders import used_folders
from headway.diagnose.evidence.kernel.worker_rank import worker_rank
from headway.diagnose.evidence.machine_watch import MachineWatch
from headway.diagnose.evidence.roles import role_of
from headway.diagnose.evidence.side_jobs import SideJobs
from headway.diagnose.evidence.stacks.py_spy import Stacks, py_spy, read_stacks, with_stacks
from headway.diagnose.evidence.stacks.trace_permission import trace_problem
from headway.diagnose.evidence.without_proc import look_at

_MOST_USED = 4  # processes whose own folders matter; the others share them
_COMPUTES = 0.1  # cores from which a process may be busy with a line
WHOLE_S = 1.4  # for everything: with the start of the verb, less than two seconds
_PYTHON_STACKS_S = 1.5  # at most, for the calls of Python; those of machine code come after
_KERNEL_S = 0.5  # for what the kernel has about all processes
_LINES_S = 0.2  # for the lines of text that processes compute on
_KILL_S = 0.15  # for py-spy to be killed when it is late
_AT_ONCE = 8
_NO_PY_SPY = "py-spy is not installed: pip install py-spy"
_LATE = "there was no time left to read its stack"
_HELD = "the kernel does not answer about it while its memory is being changed"


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
    """Read what processes, all their descendants and the machine do.

    It takes less than 2 s, and up to 3 s where the machine is so busy that py-spy has to wait.
    Processes that are gone are left out.

    Args:
        pids: the job's processes: the one in question first, then its workers by rank.
        roles: what they are in the job.
        pulses: of a run of Headway, by rank.
        folders: whose disks matter to the job, in addition to those that its processes use.
        silent_s: how long nobody has seen progress.
        missing: ranks that are gone.
        seconds: how long to watch, for rates.
        native: read the calls of machine code, too.
        proc: the kernel's folder of processes.
    """
    began_s = time.monotonic()
    parents = parents_by_pid(proc)
    tree = process_tree(pids, parents)
    used = [one for pid in tree[:_MOST_USED] for one in used_folders(proc / str(pid))]
    places = tuple(dict.fromkeys((*folders, *used)))
    machine = MachineWatch(tops([pid for pid in pids if pid in parents], parents), places, 1.0)
    found = _watched(tree, seconds, proc) if proc.is_dir() else look_at(tree, seconds)
    machine_facts = machine.facts()
    watched_s = time.monotonic() - began_s
    # Only now: py-spy takes time of the machine, and stops what it reads for a moment.
    found = _with_stacks(found, began_s + WHOLE_S - _LINES_S, proc, native=native)
    until_s = max(began_s + WHOLE_S, time.monotonic() + _LINES_S)
    found = _with_lines(found, until_s, proc)
    disks, gpus = machine.disks_and_gpus(until_s)
    given = roles or {}
    return Evidence(
        processes=tuple(
            replace(facts, role=given.get(pid) or _rank(facts, proc) or role_of(facts))
            for pid, facts in found.items()
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
    # The kernel keeps a reader waiting while a process's memory is being changed.
    reads = {pid: partial(reader.read, pid, before[pid], after[pid]) for pid in tree}
    found = SideJobs(reads).results(time.monotonic() + _KERNEL_S)
    held = {pid: ProcessFacts(pid, unread=_HELD) for pid in tree if pid not in found}
    return {pid: facts for pid in tree if (facts := found.get(pid, held.get(pid)))}


def _with_stacks(
    found: Mapping[int, ProcessFacts], until_s: float, proc: Path, *, native: bool
) -> dict[int, ProcessFacts]:
    """The processes with their stacks: Python's calls of all first, then those of machine code."""
    program = py_spy()

    def read(pids: Sequence[int], limit_s: float, *, native: bool) -> dict[int, Stacks]:
        calls = {
            pid: partial(_stacks, found[pid], limit_s - _KILL_S, proc, program, native=native)
            for pid in pids
        }
        # Symbols cost CPU time: all at once, none would be done in time.
        at_once = max(os.cpu_count() or 1, 2) if native else _AT_ONCE
        return SideJobs(calls, at_once).results(limit_s)

    alive = [pid for pid, facts in found.items() if facts.main_thread.state not in ("Z", "X")]
    # Without them little can be explained: on a machine that is overloaded they may take longer.
    python = read(alive, max(time.monotonic() + _PYTHON_STACKS_S, until_s), native=False)
    python = {pid: python.get(pid, Stacks(problem=_LATE)) for pid in alive}
    if native:
        better = read([pid for pid in alive if python[pid].threads], until_s, native=True)
        python |= {pid: stacks for pid, stacks in better.items() if stacks.threads}
    return {
        pid: replace(
            facts,
            threads=with_stacks(facts.threads, python[pid].threads, pid),
            unread=python[pid].problem or facts.unread,
        )
        if pid in python
        else facts
        for pid, facts in found.items()
    }


def _stacks(
    facts: ProcessFacts, until_s: float, proc: Path, program: str, *, native: bool
) -> Stacks:
    """The stacks of a process; none and no problem for one that does not run Python."""
    if not is_python(facts, proc):
        return Stacks()
    problem = trace_problem(facts.pid, proc) or ("" if program else _NO_PY_SPY)
    if problem:
        return Stacks(problem=problem)
    states = [thread.state for thread in facts.threads] + (["t"] if facts.debugger else [])
    return read_stacks(facts.pid, states, native=native, until_s=until_s, program=program)


def _rank(facts: ProcessFacts, proc: Path) -> str:
    return worker_rank(proc / str(facts.pid), proc / str(facts.parent))


def _with_lines(
    found: Mapping[int, ProcessFacts], until_s: float, proc: Path
) -> dict[int, ProcessFacts]:
    """The processes with the lines of text that those which compute are reading."""
    calls = {
        pid: partial(with_lines, proc / str(pid), facts.open_files)
        for pid, facts in found.items()
        if facts.cpu >= _COMPUTES
    }
    files = SideJobs(calls).results(until_s)
    return {
        pid: replace(facts, open_files=files[pid]) if pid in files else facts
        for pid, facts in found.items()
    }


def is_python(facts: ProcessFacts, proc: Path = PROC) -> bool:
    """Whether a process runs Python, as a program or inside another one."""
    process = proc / str(facts.pid)
    try:
        program = (process / "exe").readlink().name
    except OSError:  # another user's, or no /proc
        program = Path(facts.command[0]).name if facts.command else ""
    return "python" in program.lower() or "libpython" in text_of(process / "maps")
