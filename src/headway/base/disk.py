"""Disk errors as refusals, and checks for a writable folder with free space.

Every write for a run happens under `disk_errors`, so that the message is the same whether the disk
was full at the first byte or at the last fsync.
"""

import errno
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.units import size


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
def disk_errors(path: Path) -> Generator[None]:
    """Turn an OSError into a refusal.

    Raises:
        MachineError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        place = path.parent if path.parent != Path() else Path.cwd()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"the disk is full: {path} was not written",
                cause=Cause.DISK_FULL,
                have=f"{size(shutil.disk_usage(_nearest(place)).free)} free",
                need="room for one more checkpoint",
                remedies=(Remedy("--output-dir DIR", "a folder on another disk"),),
            ) from error
        if error.errno == errno.EFBIG:
            raise MachineError(
                f"{path} exceeds the file size limit of this process",
                cause=Cause.FILE_TOO_LARGE,
                have=f"at most {size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])} per file",
                need="no limit on the size of files",
                remedies=(Remedy("ulimit -f unlimited", "in the shell that starts it"),),
            ) from error
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise MachineError(
            f"cannot write {path}",
            cause=Cause.NOT_WRITABLE,
            have=reason,
            need=f"a folder that user {os.getuid()} may write to"
            if refused
            else "a disk without write errors",
            remedies=(Remedy("--output-dir DIR", "a folder of your own, or on another disk"),),
        ) from error


def _nearest(path: Path) -> Path:
    return next((p for p in (path, *path.parents) if p.exists()), Path("/"))
