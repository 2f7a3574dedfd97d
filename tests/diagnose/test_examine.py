"""Examination: real processes that stand still, each for another reason, read from outside."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.base.process_id import is_stopped
from headway.diagnose import examine as examination
from headway.diagnose.evidence.facts import Evidence, HeldLock, Link
from headway.diagnose.evidence.frames import own_frame
from headway.diagnose.evidence.kernel.process_facts import ProcessReader
from headway.diagnose.examine import examine

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python with some code and waits until it prints a line."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(code: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def look(*pids: int, native: bool = False) -> Evidence:
    return examine(pids, seconds=0.1, native=native)


def test_a_process_that_waits_for_a_lock_in_a_thread(start: Start) -> None:
    process = start(
        "import threading\nlock = threading.Lock(); lock.acquire()\n"
        "def wait_for_it():\n    print(flush=True); lock.acquire()\nwait_for_it()"
    )
    (facts,) = look(process.pid).processes
    main = facts.main_thread
    assert (main.tid, main.name, main.state, main.call) == (
        *(process.pid, "MainThread"),
        *("S", "futex"),
    )
    frame = own_frame(main.frames)
    assert frame is not None
    assert (frame.function, frame.line) == ("wait_for_it", 4)
    assert facts.cpu < 0.5
    assert facts.unread == ""
    assert facts.parent == os.getpid()


def test_descendants_belong_to_it(start: Start) -> None:
    process = start(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    found = look(process.pid).processes
    assert [facts.parent for facts in found] == [os.getpid(), process.pid]
    reading = found[1].main_thread
    assert (reading.call, reading.descriptor) in (("read", 0), ("", -1))  # it may still start


def test_a_stopped_process(start: Start) -> None:
    process = start("print(flush=True); input()")
    process.send_signal(signal.SIGSTOP)
    while not is_stopped(process.pid):
        time.sleep(0.01)
    (facts,) = look(process.pid, native=True).processes
    assert facts.main_thread.state == "T"
    assert facts.main_thread.frames
    assert is_stopped(process.pid)


def test_a_process_that_is_traced(start: Start) -> None:
    process = start("print(flush=True); input()")
    command = ["strace", "-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as debugger:
        assert debugger.stderr is not None
        debugger.stderr.readline()  # "attached"
        (facts,) = look(process.pid, native=True).processes
        debugger.terminate()
    assert facts.debugger == debugger.pid
    assert facts.main_thread.frames
    assert facts.unread == ""


def test_a_process_that_waits_for_a_file_lock(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "cache.lock"
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start(
            f"import fcntl\nfile = open({str(path)!r})\nprint(flush=True)\n"
            "fcntl.flock(file, fcntl.LOCK_EX)"
        )
        until = time.monotonic() + 30
        while not (found := look(process.pid).processes[0].locks) and time.monotonic() < until:
            pass
    assert found == (HeldLock(str(path), os.getpid()),)


def test_a_process_that_waits_for_an_answer(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = start(
            f"import socket\ns = socket.create_connection(('127.0.0.1', {port}))\n"
            "print(flush=True)\ns.recv(10)"
        )
        (facts,) = look(process.pid).processes
    sockets = [one for one in facts.open_files if one.link is Link.SOCKET]
    assert [(one.peer, one.state) for one in sockets] == [(f"127.0.0.1:{port}", "ESTABLISHED")]


def test_a_process_that_computes(start: Start) -> None:
    process = start("print(flush=True)\nwhile True: pass")
    (facts,) = examine([process.pid], seconds=0.4, native=False).processes
    assert facts.cpu > 0.02
    assert facts.main_thread.cpu > 0.02


def test_what_is_gone_is_left_out(start: Start) -> None:
    process = start("print(flush=True)")
    process.wait()
    assert look(process.pid).processes == ()
    assert look().processes == ()


def test_one_that_has_ended_and_was_not_asked_about(start: Start) -> None:
    process = start(
        "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', ''])\n"
        "time.sleep(0.5); print(flush=True); time.sleep(600)"
    )
    ended = look(process.pid).processes[1]
    assert ended.main_thread.state == "Z"
    assert ended.unread == ""


def test_a_native_call_that_keeps_the_interpreters_lock(start: Start) -> None:
    process = start("import ctypes\nprint(flush=True)\nctypes.PyDLL(None).sleep(600)")
    (facts,) = look(process.pid, native=True).processes
    assert facts.main_thread.holds_gil
    assert any(frame.module.endswith(".so.6") for frame in facts.main_thread.frames)


def test_a_reading_that_hangs_keeps_no_other_from_being_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, read = threading.Event(), ProcessReader.read
    stuck, fine = start("print(flush=True); input()").pid, start("print(flush=True); input()").pid

    def hang(reader: ProcessReader, pid: int, *looks: Any) -> Any:
        if pid == stuck:
            over.wait()
        return read(reader, pid, *looks)

    monkeypatch.setattr(ProcessReader, "read", hang)
    first, second = look(stuck, fine).processes
    over.set()
    assert first.unread
    assert (first.threads, second.pid, second.unread) == ((), fine, "")


def test_what_is_no_python_has_no_stack_and_needs_none() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        (facts,) = look(process.pid).processes
        process.kill()
    assert (facts.command, facts.unread, facts.main_thread.frames) == (("sleep", "600"), "", ())


def test_without_py_spy_everything_else_is_there(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "py_spy", lambda: "")
    (facts,) = look(start("print(flush=True); input()").pid).processes
    assert "pip install py-spy" in facts.unread
    assert facts.main_thread.state == "S"


def test_roles_pulses_and_silence_are_passed_on(start: Start) -> None:
    pid = start("print(flush=True); input()").pid
    found = examine(
        [pid], roles={pid: "worker 1 of 2"}, silent_s=7.5, missing=[1], seconds=0.05, native=False
    )
    assert found.processes[0].role == "worker 1 of 2"
    assert (found.silent_s, found.missing, found.pulses) == (7.5, (1,), ())
    assert found.watched_s >= 0.05
    assert found.machine.cores >= 1


def test_a_machine_that_is_overloaded_gets_more_time_for_the_calls_of_python(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "WHOLE_S", 0.0)
    monkeypatch.setattr(examination, "_PYTHON_STACKS_S", 60.0)
    (facts,) = look(start("print(flush=True); input()").pid, native=True).processes
    assert facts.main_thread.frames
    assert facts.unread == ""


def test_eight_processes_are_read_in_time(start: Start) -> None:
    pids = [start("print(flush=True); input()").pid for _ in range(8)]
    found = examine(pids, seconds=0.1, native=False)
    assert [facts.pid for facts in found.processes] == pids
    assert all(facts.main_thread.frames for facts in found.processes)
