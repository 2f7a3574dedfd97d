"""py-spy: its stacks as facts, and what is told when it cannot read them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.base.process_id import is_stopped
from headway.diagnose.evidence.facts import Frame, ThreadFacts
from headway.diagnose.evidence.stacks.py_spy import (
    StackOfThread,
    _Call,
    py_spy,
    read_stacks,
    with_stacks,
)

CODE = """
import threading
lock = threading.Lock()
lock.acquire()
def second():
    lock.acquire()
threading.Thread(target=second, name="helper", daemon=True).start()
def first():
    print(flush=True)
    lock.acquire()
first()
"""


@pytest.fixture
def child() -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-c", CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def program(folder: Path, script: str) -> str:
    path = folder / "py-spy"
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)
    return str(path)


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("native", [False, True])
def test_the_threads_of_a_real_process(child: "subprocess.Popen[bytes]", native: bool) -> None:
    stacks = read_stacks(child.pid, ["S"], native=native, until_s=soon(), program=py_spy())
    assert stacks.problem == ""
    tids = [stack.os_thread_id or 0 for stack in stacks.threads]
    bare = [ThreadFacts(tid, "python") for tid in (child.pid, *tids) if tid]
    threads = {thread.name: thread for thread in with_stacks(bare, stacks.threads, child.pid)}
    assert set(threads) == {"MainThread", "helper"}
    for name, function, line in (("MainThread", "first", 10), ("helper", "second", 6)):
        python = [frame for frame in threads[name].frames if frame.file]
        assert python[0] == Frame(function, "<string>", line)
        assert (python != list(threads[name].frames)) is native
        assert not threads[name].holds_gil


def test_a_stopped_process_is_read_and_stays_stopped(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGSTOP)
    while not is_stopped(child.pid):
        time.sleep(0.01)
    stacks = read_stacks(child.pid, ["T"], native=True, until_s=soon(), program=py_spy())
    assert {call.name for stack in stacks.threads for call in stack.frames} >= {"first", "second"}
    assert is_stopped(child.pid)


def test_a_process_goes_on_when_py_spy_is_given_up(
    child: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    stop = "import os, signal, sys, time\nos.kill(int(sys.argv[4]), signal.SIGSTOP)\ntime.sleep(60)"
    slow = program(tmp_path, stop)
    found = read_stacks(child.pid, ["S"], native=False, until_s=soon(0.7), program=slow)
    assert found.threads == ()
    assert found.problem
    until = soon(30)
    while is_stopped(child.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_stopped(child.pid)


@pytest.mark.parametrize(
    ("states", "stops"),
    [(["S", "R"], True), (["S", "D"], False), (["T"], False), (["S", "t"], False), ([], False)],
)
def test_who_must_not_be_stopped_is_read_while_it_goes_on(
    child: "subprocess.Popen[bytes]", tmp_path: Path, states: list[str], stops: bool
) -> None:
    asked = tmp_path / "asked"
    spy = program(tmp_path, f"import sys; open({str(asked)!r}, 'w').write(' '.join(sys.argv))")
    read_stacks(child.pid, states, native=True, until_s=soon(), program=spy)
    words = asked.read_text().split()
    assert ("--nonblocking" in words, "--native" in words) == (not stops, stops)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import sys; sys.exit('Error: Failed to find python version')", "Failed to find python"),
        ("print('{}')", "something other"),
    ],
)
def test_what_goes_wrong_is_told(
    child: "subprocess.Popen[bytes]", tmp_path: Path, script: str, problem: str
) -> None:
    spy = program(tmp_path, script)
    found = read_stacks(child.pid, ["S"], native=False, until_s=soon(), program=spy)
    assert found.threads == ()
    assert problem in found.problem


def test_a_program_that_cannot_be_started(child: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    gone = str(tmp_path / "py-spy")
    found = read_stacks(child.pid, ["S"], native=False, until_s=soon(), program=gone)
    assert "No such file" in found.problem


CALL = _Call("f", "/a/t.py", line=3)
FRAMES = (Frame("f", "/a/t.py", 3),)


def stack(name: str, tid: int | None = None, *, gil: bool = False) -> StackOfThread:
    return StackOfThread(tid, name, gil, (CALL,))


def test_threads_of_older_pythons_are_told_by_the_order_in_which_they_started() -> None:
    bare = [ThreadFacts(10, "python"), ThreadFacts(11, "python"), ThreadFacts(12, "python")]
    stacks = [stack("newest", gil=True), stack("second"), stack("MainThread")]
    assert with_stacks(bare, stacks, 10) == (
        ThreadFacts(10, "MainThread", frames=FRAMES),
        ThreadFacts(11, "second", frames=FRAMES),
        ThreadFacts(12, "newest", holds_gil=True, frames=FRAMES),
    )


def test_threads_that_nothing_tells_apart_keep_their_stacks() -> None:
    bare = [ThreadFacts(10, "python", "T"), ThreadFacts(11, "python", "T"), ThreadFacts(12)]
    found = with_stacks(bare, [stack("other"), stack("MainThread")], 10)
    assert found == (
        ThreadFacts(10, "MainThread", "T", frames=FRAMES),
        *bare[1:],
        ThreadFacts(0, "other", "T", frames=FRAMES),
    )


def test_a_thread_that_started_after_the_first_reading_is_left_out() -> None:
    found = with_stacks([ThreadFacts(10, "python")], [stack("old", 7), stack("x", 10)], 10)
    assert [(thread.tid, thread.name) for thread in found] == [(10, "x")]
