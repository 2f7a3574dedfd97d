"""File locks, released by the kernel when their owner dies; the lock of a run."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, ComeBack, Refusal, Remedy
from headway.base.files import regular_file
from headway.base.process_id import ProcessId


@dataclass(frozen=True)
class Owner:
    """Who holds a run: written into run.lock, for people and for `status`."""

    pid: int
    host: str
    live: str  # the folder with this job's pulses
    started: int = 0  # as in `ProcessId`; 0 from a Headway that did not write it


@contextlib.contextmanager
def exclusive_lock(path: Path, refusal: Refusal) -> Generator[int]:
    """Hold a file's lock (flock), or refuse at once.

    Args:
        path: the lock file, created if missing and never deleted: that would race. A link is
            not followed: what it leads to would be emptied.
        refusal: raised if another process holds the lock.

    Yields:
        The descriptor of the lock file.

    Raises:
        Refusal: the given one.
        MachineError: the file cannot be created.
    """
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        if not _acquire(descriptor):
            raise refusal
        yield descriptor
    finally:
        os.close(descriptor)


class RunLock:
    """The lock of a run's folder, with its owner written into it.

    Args:
        path: the lock file.
        live: the folder with the owner's pulses.
        taken: makes the refusal from the folder and its owner, where somebody holds the lock.

    Attributes:
        broken_owner: the dead owner whose lock was taken over.

    Example:
        with RunLock(folder / "run.lock", live="/dev/shm/...") as lock: ...
    """

    def __init__(
        self,
        path: Path,
        live: str = "",
        taken: "Callable[[Path, Owner | None], Refusal] | None" = None,
    ) -> None:
        self.path = path
        self.live = live
        self._refuse = taken or _already_training
        self.broken_owner: Owner | None = None
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "RunLock":
        """Take the lock or refuse.

        Raises:
            ComeBack: a live process holds it.
            MachineError: the owner cannot be written.
        """
        refusal = self._refuse(self.path.parent, owner_of(self.path))
        with contextlib.ExitStack() as taken:
            descriptor = taken.enter_context(exclusive_lock(self.path, refusal))
            mine = ProcessId.mine()
            owner = Owner(mine.pid, socket.gethostname(), self.live, mine.started)
            self.broken_owner = owner_of(self.path)
            with disk_errors(self.path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, msgspec.json.encode(owner), 0)
            # Emptied, not deleted: deleting a lock file races with the next owner.
            taken.callback(os.ftruncate, descriptor, 0)
            self._held = taken.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _already_training(folder: Path, owner: Owner | None) -> ComeBack:
    return ComeBack(
        f"{folder} is already being trained",
        cause=Cause.RUN_ACTIVE,
        have=f"process {owner.pid} on {owner.host}" if owner else "another process",
        need="one owner per run",
        remedies=(
            Remedy(f"headway status {folder}", "what it is doing"),
            Remedy(f"headway stop {folder}", "saves and stops it"),
        ),
    )


def _acquire(descriptor: int) -> bool:
    """Take the lock; `is_held` holds it for an instant, so try more than once."""
    for wait_s in (0.01, 0.02, 0.04, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(wait_s)
    return False


def owner_of(lock: Path) -> Owner | None:
    """The last owner, alive or dead; None after a clean release."""
    try:
        return msgspec.json.decode(regular_file(lock).read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(lock: Path) -> bool:
    """Whether a live process of this machine holds the lock."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def running_owner(lock: Path) -> ProcessId | None:
    """The process that holds a run, if that is proved; None if it is not.

    Anybody may have written the lock file. The process it names must have the number and the start
    time that it says, on this machine, and have this file open while it is locked.
    """
    owner = owner_of(lock)
    if owner is None or owner.host != socket.gethostname() or not is_held(lock):
        return None
    process = ProcessId(owner.pid, owner.started)
    return process if process.is_alive and process.has_open(lock) else None
