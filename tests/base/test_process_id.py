"""A number and a start time name one process: no other one is signaled, none is taken for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.base import process_id
from headway.base.process_id import ProcessId, debugger_of, is_alive, is_stopped


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def of(process: "subprocess.Popen[bytes]") -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_this_process_is_alive() -> None:
    mine = ProcessId.mine()
    assert (mine.pid, mine.is_alive) == (os.getpid(), True)
    assert mine == ProcessId.of(os.getpid())


def test_a_process_that_got_the_number_later_is_another_one(
    child: "subprocess.Popen[bytes]",
) -> None:
    earlier = replace(of(child), started=of(child).started - 1)
    assert not earlier.is_alive
    assert not earlier.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    assert child.poll() is None


def test_a_signal_reaches_the_process(child: "subprocess.Popen[bytes]") -> None:
    assert of(child).send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_an_old_kernel_signals_by_number(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(process_id.os, "pidfd_open", unknown)
    earlier = replace(of(child), started=of(child).started - 1)
    assert not earlier.send_signal(signal.SIGKILL)
    assert of(child).send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_what_has_ended_is_not_signaled(child: "subprocess.Popen[bytes]") -> None:
    before = of(child)
    child.kill()
    child.wait()
    assert not before.is_alive
    assert not before.send_signal(signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells")
def test_it_is_known_whether_it_has_a_file_open(
    child: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    other.write_bytes(b"")
    with lock.open("wb"):
        assert ProcessId.mine().has_open(lock)
        assert not ProcessId.mine().has_open(other)
        assert not of(child).has_open(lock)


def test_a_zombie_is_not_alive() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1)
    assert not is_alive(0)
    assert not is_alive(-1)
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.read()  # its end: it is exiting, and nobody has waited for it
    deadline_s = time.monotonic() + 60
    while is_alive(child.pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_alive(child.pid)
    child.wait()
    assert not is_alive(child.pid)


def test_a_name_in_parentheses_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / ") Z 1 (x"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert of(process).is_alive
        finally:
            process.kill()


def test_a_process_that_stands_still_is_known(child: "subprocess.Popen[bytes]") -> None:
    assert not is_stopped(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    end_s = time.monotonic() + 60
    while not is_stopped(child.pid):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert debugger_of(child.pid) == 0  # nobody holds it


TRACE = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
open("/proc/self/comm", "w").write(sys.argv[2])
if libc.ptrace(0x4206, int(sys.argv[1]), None, None):  # PTRACE_SEIZE
    sys.exit(ctypes.get_errno())
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("name", "is_debugger"), [("gdb", True), ("py-spy", False)])
def test_who_takes_a_stack_is_no_debugger(
    child: "subprocess.Popen[bytes]", name: str, is_debugger: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRACE, str(child.pid), name], stdout=subprocess.PIPE
    ) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"held\n":
            pytest.skip("no process may be traced here")
        assert debugger_of(child.pid) == (tracer.pid if is_debugger else 0)
        tracer.kill()
