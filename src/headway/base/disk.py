"""Disk errors as refusals, and checks for a writable folder with free space.

Every write for a run happens under `disk_errors`, so that the message is the same whether the disk
was full at the first byte or at the last fsync.
"""

import errno
import os
import re
import resource
import shlex
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.units import count, size

_FULL = (errno.ENOSPC, errno.EDQUOT)
ELSEWHERE = Remedy("--output-dir DIR", "a folder of your own, or on another disk")


def check_writable(folder: Path, need_bytes: int = 0) -> None:
    """Write a temporary file where the run will write.

    Raises:
        MachineError: the folder (or its nearest existing parent) is not writable, or has less
            than `need_bytes` free.
    """
    with disk_errors(folder):
        place = _nearest(folder.absolute())
    if not place.is_dir():
        raise MachineError(
            f"{place} is not a folder",
            cause=Cause.NOT_WRITABLE,
            have="a file",
            need="a folder for runs",
            remedies=(Remedy("--output-dir runs2", "another folder"),),
        )
    with disk_errors(folder), tempfile.TemporaryFile(dir=place) as trial:
        trial.write(bytes(4096))
        trial.flush()
        os.fsync(trial.fileno())  # a quota or a failing disk may show only here
    free = shutil.disk_usage(place).free
    if free < need_bytes:
        raise MachineError(
            f"not enough disk space for the checkpoints in {folder}",
            cause=Cause.DISK_FULL,
            have=f"{size(free)} free",
            need=size(need_bytes),
            remedies=(
                Remedy("--output-dir DIR", "a folder on a larger disk"),
                Remedy("--save-total-limit 1", "keep one checkpoint"),
            ),
        )


@contextmanager
def errors_from_rust() -> Generator[None]:
    """Turn disk errors of safetensors and tokenizers into OSError.

    Both are written in Rust, and their exceptions carry the error number only in the text, "...
    (os error 28)". This is the one place that parses it.
    """
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if not number or isinstance(error, OSError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


@contextmanager
def disk_errors(path: Path, elsewhere: Remedy = ELSEWHERE) -> Generator[None]:
    """Turn an OSError into a refusal.

    Args:
        path: what is written.
        elsewhere: how to write to another disk.

    Raises:
        MachineError: instead of the OSError.
        OSError: too many files are open, which is no matter of the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise
        raise write_refusal(error, path, elsewhere) from error


def is_disk_error(error: OSError) -> bool:
    """Whether the disk or a limit on files caused an error, wherever it was raised."""
    return error.errno in (*_FULL, errno.EFBIG, errno.EROFS)


def write_refusal(
    error: OSError, path: Path | None = None, elsewhere: Remedy = ELSEWHERE
) -> MachineError:
    """The refusal for a write that failed.

    Args:
        error: as the system raised it.
        path: what was written, if the error does not say.
        elsewhere: how to write to another disk.
    """
    path = path or Path(os.fsdecode(error.filename or "a file"))
    if error.errno in _FULL:
        return _full(error, path, elsewhere)
    if error.errno == errno.EFBIG:
        return MachineError(
            f"{path} exceeds the file size limit of this process",
            cause=Cause.FILE_TOO_LARGE,
            have=f"at most {size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])} per file",
            need="no limit on the size of files",
            remedies=(Remedy("ulimit -f unlimited", "in the shell that starts it"),),
        )
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return MachineError(
        f"cannot write {path}",
        cause=Cause.NOT_WRITABLE,
        have=os.strerror(error.errno) if error.errno else str(error),
        need=f"a folder that user {os.getuid()} may write to"
        if refused
        else "a disk without write errors",
        remedies=(elsewhere,),
    )


def _full(error: OSError, path: Path, elsewhere: Remedy) -> MachineError:
    """No room: of bytes, of inodes, or of a quota; told of the file system that has none."""
    place = _where_it_failed(error, path)
    disk = os.statvfs(place)
    free = f"{size(disk.f_bavail * disk.f_frsize)} free"
    if error.errno == errno.ENOSPC and disk.f_files and not disk.f_favail:
        return MachineError(
            f"no inodes left on the disk: {path} was not written",
            cause=Cause.NO_INODES,
            have=f"0 of {count(disk.f_files)} inodes free on the disk of {place}, {free}",
            need="an inode for each file",
            remedies=(elsewhere, Remedy(f"df -i {shlex.quote(str(place))}", "shows the disk")),
        )
    quota = "over the quota; " if error.errno == errno.EDQUOT else ""
    return MachineError(
        f"the disk is full: {path} was not written",
        cause=Cause.DISK_FULL,
        have=f"{quota}{free} on the disk of {place}",
        need="room for one more checkpoint",
        remedies=(elsewhere, Remedy(f"df -h {shlex.quote(str(place))}", "shows the disk")),
    )


def _where_it_failed(error: OSError, path: Path) -> Path:
    """A folder on the file system that an error is about.

    The error's own file says more than the path that was meant: that may be a link, or lie above
    another file system.
    """
    named = [os.fsdecode(name) for name in (error.filename2, error.filename) if name is not None]
    failed = Path(named[0]) if named and isinstance(error.filename, str | bytes) else path
    place = _nearest(failed.absolute()).resolve()
    return place if place.is_dir() else place.parent


def _nearest(path: Path) -> Path:
    return next((p for p in (path, *path.parents) if p.exists()), Path("/"))
