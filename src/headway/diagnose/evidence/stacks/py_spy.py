"""Stacks: the calls of every thread of a Python process, read from outside by py-spy.

py-spy stops a process for some milliseconds to read it. A process that must not be stopped, because
it is stopped already or waits for a disk, is read while it continues.
"""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from headway.base.process_id import ProcessId
from headway.diagnose.evidence.facts import Frame, ThreadFacts
from headway.diagnose.evidence.frames import module_of
from headway.diagnose.evidence.source_line import source_line

_RUNS = ("R", "S", "I")  # states in which a thread can be stopped at once


@dataclass(frozen=True)
class _Call:
    """A frame, as py-spy prints it."""

    name: str
    filename: str
    module: str | None = None
    line: int = 0


@dataclass(frozen=True)
class StackOfThread:
    """A thread, as py-spy prints it; the innermost call first."""

    os_thread_id: int | None
    thread_name: str | None
    owns_gil: bool
    frames: tuple[_Call, ...]


@dataclass(frozen=True)
class Stacks:
    """The stacks of a process, or why there are none."""

    threads: tuple[StackOfThread, ...] = ()
    problem: str = ""


def py_spy() -> str:
    """The program, "" if it is not installed: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy") or ""


def read_stacks(
    pid: int, states: Sequence[str], *, native: bool, until_s: float, program: str
) -> Stacks:
    """The stacks of a Python process.

    Args:
        pid: its number.
        states: of its threads, as the kernel has them, and "t" if a debugger holds the process;
            none if they could not be read.
        native: with the calls of machine code, which takes longer.
        until_s: CLOCK_MONOTONIC, when to give up.
        program: py-spy.
    """
    may_stop = bool(states) and all(state in _RUNS for state in states)
    command = [program, "dump", "--json", "--pid", str(pid)]
    command += (["--native"] if native else []) if may_stop else ["--nonblocking"]
    process = ProcessId.of(pid)
    seconds = until_s - time.monotonic()
    if process is None or seconds <= 0:
        return Stacks(problem="there was no time left to read its stack")
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        if may_stop:
            _let_go(process)
        return Stacks(problem=f"its stack could not be read within {seconds:.1f} s")
    except OSError as error:
        return Stacks(problem=f"{program} cannot be started: {error.strerror}")
    if done.returncode:
        return Stacks(problem=_problem(done.stderr.decode(errors="replace")))
    try:
        return Stacks(msgspec.json.decode(done.stdout, type=tuple[StackOfThread, ...]))
    except msgspec.MsgspecError:
        return Stacks(problem="py-spy printed something other than stacks")


def with_stacks(
    threads: Sequence[ThreadFacts], stacks: Sequence[StackOfThread], pid: int
) -> tuple[ThreadFacts, ...]:
    """The threads with their stacks, Python's names and who holds the interpreter's lock.

    Pythons before 3.11 do not always know the kernel's numbers. Their threads are told by the order
    in which they started if there are as many as threads without a stack; else they come last.
    """
    main_only = {"MainThread": pid}
    by_tid = {
        tid: stack
        for stack in stacks
        if (tid := stack.os_thread_id or main_only.get(stack.thread_name or "", 0))
    }
    nameless = [stack for stack in stacks if stack not in by_tid.values()]
    left = [thread.tid for thread in threads if thread.tid not in by_tid]
    if len(nameless) == len(left):
        by_tid |= dict(zip(left, reversed(nameless), strict=True))  # the newest is listed first
        nameless = []
    found = [
        _with_stack(thread, by_tid[thread.tid]) if thread.tid in by_tid else thread
        for thread in threads
    ]
    state = threads[0].state if threads else "S"
    found += [_with_stack(ThreadFacts(0, "python", state), stack) for stack in nameless]
    return tuple(found)


def _with_stack(thread: ThreadFacts, stack: StackOfThread) -> ThreadFacts:
    return replace(
        thread,
        name=stack.thread_name or thread.name,
        holds_gil=stack.owns_gil,
        frames=tuple(map(_frame, stack.frames)),
    )


@functools.lru_cache(maxsize=1000)
def _frame(call: _Call) -> Frame:
    if call.module:  # only machine code has one: its library
        return Frame(call.name, "", 0, call.module)
    return Frame(
        call.name,
        call.filename,
        call.line,
        module_of(call.filename),
        *source_line(call.filename, call.line),
    )


def _let_go(process: ProcessId) -> None:
    """Continue a process that py-spy had stopped when py-spy was killed."""
    with suppress(PermissionError):
        process.send_signal(signal.SIGCONT)


def _problem(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"py-spy: {lines[0].removeprefix('Error: ')}" if lines else "py-spy failed"
