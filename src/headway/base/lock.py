"""One live owner per run folder: a lock the kernel frees when its owner dies."""

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import ComeBack, MachineError, Remedy


@dataclass(frozen=True)
class Owner:
    """Who holds a run: written into run.lock, for people and for `status`."""

    pid: int
    host: str
    live: str  # the folder with this job's pulses


class Lock:
    """One live owner per run folder, by flock: the kernel frees it when the owner dies.

    Example:
        with Lock(folder / "run.lock", live="/dev/shm/...") as lock: ...
    """

    def __init__(self, path: Path, live: str = "") -> None:
        self.path = path
        self.live = live
        self.broken_owner: Owner | None = None  # a dead owner whose lock was taken over
        self._descriptor = -1

    def __enter__(self) -> "Lock":
        """Take the lock or refuse.

        Raises:
            ComeBack: somebody alive holds it.
        MachineError: the disk does not take the owner's name.
        """
        with disk_errors(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        before = owner_of(self.path)
        if not _taken(self._descriptor):
            os.close(self._descriptor)
            raise ComeBack(
                f"{self.path.parent} is being trained already",
                have=f"process {before.pid} on {before.host}" if before else "another process",
                need="one owner per run",
                remedies=(
                    Remedy(f"headway status {self.path.parent}", "what it is doing"),
                    Remedy(f"headway stop {self.path.parent}", "save and stop it"),
                ),
            )
        self.broken_owner = before
        owner = Owner(os.getpid(), socket.gethostname(), self.live)
        try:
            with disk_errors(self.path):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, msgspec.json.encode(owner), 0)
        except MachineError:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Empty, not unlinked: unlinking a lock file races with the next owner.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _taken(descriptor: int) -> bool:
    """Take the lock; whoever merely looks whether it is held (`is_held`) has it for an instant."""
    for wait_s in (0.01, 0.02, 0.04, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(wait_s)
    return False


def owner_of(lock: Path) -> Owner | None:
    """Who wrote itself into the lock last, alive or dead; None when it was given back."""
    try:
        return msgspec.json.decode(lock.read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(lock: Path) -> bool:
    """Whether a live process of this machine holds the lock."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
