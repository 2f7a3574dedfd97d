"""One live owner per run folder."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from headway.base.errors import Cause, ComeBack, MachineError
from headway.base.lock import Owner, RunLock, exclusive_lock, is_held, owner_of, running_owner
from headway.base.process_id import ProcessId

HOLD = """
import sys, time
from pathlib import Path
from headway.base.lock import RunLock
with RunLock(Path(sys.argv[1]), live="/dev/shm/x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run.lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_f48_a_second_process_is_refused_and_told_the_first(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with (
        pytest.raises(ComeBack, match="is already being trained") as refused,
        RunLock(tmp_path / "run.lock"),
    ):
        pass
    assert f"process {holder.pid} on" in refused.value.have
    assert is_held(tmp_path / "run.lock")


def test_a_dead_owners_lock_is_taken_over_and_told(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path / "run.lock")
    with RunLock(tmp_path / "run.lock") as lock:
        assert lock.broken_owner is not None
        assert (lock.broken_owner.pid, lock.broken_owner.live) == (holder.pid, "/dev/shm/x")


def test_a_lock_that_was_given_back_leaves_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with RunLock(path, live="/dev/shm/x"):
        owner = owner_of(path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert owner_of(path) is None
    assert not is_held(path)
    with RunLock(path) as lock:
        assert lock.broken_owner is None


def test_a_mere_look_whether_a_lock_is_held_keeps_no_owner_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.lock"
    path.touch()
    look = path.open()
    fcntl.flock(look, fcntl.LOCK_EX)  # as is_held does, for an instant
    monkeypatch.setattr(time, "sleep", lambda _s: look.close())
    with RunLock(path) as lock:
        assert lock.broken_owner is None


def test_a_lock_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "run.lock")


def test_f35_a_full_disk_gives_no_lock_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", pwrite)
        with pytest.raises(MachineError, match="the disk is full"), RunLock(tmp_path / "run.lock"):
            pass
    assert not is_held(tmp_path / "run.lock")


def test_an_exclusive_lock_refuses_with_the_given_refusal(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    busy = ComeBack("busy", cause=Cause.LOCKED)
    with pytest.raises(ComeBack) as refused, exclusive_lock(tmp_path / "run.lock", busy):
        pass
    assert refused.value is busy
    with exclusive_lock(tmp_path / "other.lock", busy):
        assert is_held(tmp_path / "other.lock")
    assert not is_held(tmp_path / "other.lock")


# -- whose it is


def write_owner(lock: Path, process: ProcessId, host: str = "") -> None:
    owner = Owner(process.pid, host or socket.gethostname(), "", process.started)
    lock.write_bytes(msgspec.json.encode(owner))


def test_the_owner_is_the_process_that_holds_the_lock(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    assert running_owner(tmp_path / "run.lock") == ProcessId.of(holder.pid)
    holder.kill()
    holder.wait()
    assert running_owner(tmp_path / "run.lock") is None


def test_a_process_that_a_forged_lock_names_is_not_its_owner(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        found = ProcessId.of(stranger.pid)
        assert found is not None
        write_owner(tmp_path / "run.lock", found)  # held, but by another process
        assert is_held(tmp_path / "run.lock")
        assert running_owner(tmp_path / "run.lock") is None
        write_owner(tmp_path / "free.lock", found)  # held by nobody
        assert running_owner(tmp_path / "free.lock") is None
        stranger.kill()


def test_an_owner_of_another_time_or_host_is_not_running(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    lock, process = tmp_path / "run.lock", ProcessId.of(holder.pid)
    assert process is not None
    write_owner(lock, process, host="elsewhere")
    assert running_owner(lock) is None
    write_owner(lock, replace(process, started=process.started - 1))
    assert running_owner(lock) is None
    write_owner(lock, process)
    assert running_owner(lock) == process


def test_a_lock_that_is_a_link_or_a_pipe_is_not_touched(tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / "run.lock"
    precious.write_text("precious")
    lock.symlink_to(precious)
    with pytest.raises(MachineError), RunLock(lock):
        pass
    assert owner_of(lock) is None
    assert not is_held(lock)
    assert precious.read_text() == "precious"
    lock.unlink()
    os.mkfifo(lock)
    assert owner_of(lock) is None
