"""Runtime folder: one private folder per user for the pulses and requests of running processes.

It is in $XDG_RUNTIME_DIR, in shared memory, or in the temporary folder, where other users can make
files too. So it is used only if this user owns it, nobody else may enter it, it is no link, and
nobody else can rename it or a folder above it: then no name in it can come to mean something else.
If somebody else has the usual name, a name that cannot be guessed is used instead.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.files import cache_folder
from headway.base.lock import is_held
from headway.base.process_id import ProcessId

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LOCK = "lock"


def runtime_folder() -> Path:
    """The runtime folder of this user; made if there is none.

    Raises:
        MachineError: there is no place for it.
        OSError: it cannot be made.
    """
    place, name = _place()
    ours = [folder for folder in _named(place, name) if _is_private(folder)]
    if ours:
        return ours[0]
    for candidate in (name, f"{name}-{secrets.token_hex(8)}"):
        folder = place / candidate
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise FileExistsError(str(place / name))  # 64 random bits were guessed


def runtime_place() -> Path:
    """The folder that the runtime folder is in.

    Raises:
        MachineError: there is none.
    """
    return _place()[0]


def runtime_folders() -> list[Path]:
    """Every runtime folder of this user: another process may have had another environment."""
    found = [folder for place, name in _places() for folder in _named(place, name)]
    return [
        folder for folder in dict.fromkeys(found) if _is_safe(folder.parent) and _is_private(folder)
    ]


class LiveFolder:
    """A folder in the runtime folder, for as long as this process runs.

    Its name is the process's number and start time, and it holds a lock: so it is known whose it
    is, and those of dead processes are removed when the next one is made.

    Raises:
        MachineError: there is no place for it.
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        remove_dead_folders()
        mine = ProcessId.mine()
        prefix = f"{mine.pid}-{mine.started}-"
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=runtime_folder()))
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it with everything in it; errors are ignored, and so is a second time."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def live_folders() -> list[tuple[Path, ProcessId]]:
    """The live folders of this user, each with its process, which is alive."""
    owned = [(folder, _owner(folder)) for folder in _entries()]
    return [(folder, owner) for folder, owner in owned if owner and _is_live(folder, owner)]


def remove_dead_folders() -> None:
    """Remove what processes of this user left behind that were killed."""
    for folder in _entries():
        owner = _owner(folder)
        # In a container, a number may mean nothing here while its process holds the lock.
        if owner and not owner.is_alive and not is_held(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _is_live(folder: Path, owner: ProcessId) -> bool:
    return owner.is_alive and is_held(folder / _LOCK)


def _entries() -> Iterator[Path]:
    for folder in runtime_folders():
        with contextlib.suppress(OSError):
            yield from sorted(folder.iterdir())


def _owner(folder: Path) -> ProcessId | None:
    """The process that made a live folder; None if it is something else."""
    named = re.fullmatch(r"(\d+)-(\d+)-\w+", folder.name)
    return ProcessId(int(named[1]), int(named[2])) if named else None


# ---- places --------------------------------------------------------------------------------------


def _places() -> Iterator[tuple[Path, str]]:
    """Where the runtime folder may be, the best place first, and its usual name there."""
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(given), "headway"
    name = f"headway-{os.getuid()}"
    yield Path("/dev/shm"), name  # noqa: S108 - the name of Linux's shared memory
    with contextlib.suppress(OSError):  # no temporary folder takes a file
        yield Path(tempfile.gettempdir()), name
    with contextlib.suppress(OSError, RuntimeError):  # no home
        cache_folder().mkdir(parents=True, exist_ok=True)
        yield cache_folder(), "live"


def _place() -> tuple[Path, str]:
    for place, name in _places():
        if os.access(place, os.W_OK | os.X_OK) and _is_safe(place):
            return place, name
    raise MachineError(
        "no folder for the state of running processes",
        cause=Cause.NOT_WRITABLE,
        have="; ".join(str(place) for place, _ in _places()),
        need="one that this user may write to, where other users cannot rename files",
        remedies=(
            Remedy("mkdir -m 700 ~/run; export XDG_RUNTIME_DIR=~/run", "if your home is on a disk"),
            Remedy("chmod +t /dev/shm", "as root; containers often lack it"),
        ),
    )


def _named(place: Path, name: str) -> list[Path]:
    """What has the usual name there, or one that was used instead."""
    return [place / name, *sorted(place.glob(f"{name}-*"))]


def _is_private(folder: Path) -> bool:
    """Whether it is a folder of this user that nobody else may enter; no link is followed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or status.st_mode & _OTHERS_WRITE:
            return False
        if status.st_mode & _OTHERS:  # made by Headway 0.1
            os.fchmod(descriptor, stat.S_IRWXU)
        return True
    finally:
        os.close(descriptor)


def _is_safe(place: Path) -> bool:
    """Whether no other user can rename or replace what this user makes there."""
    trusted = {0, os.getuid(), Path("/").stat().st_uid}  # the last: root, in a user namespace
    try:
        above = [folder.stat() for folder in (place.resolve(), *place.resolve().parents)]
    except OSError:
        return False
    return all(
        one.st_uid in trusted and (not one.st_mode & _OTHERS_WRITE or one.st_mode & stat.S_ISVTX)
        for one in above
    )
