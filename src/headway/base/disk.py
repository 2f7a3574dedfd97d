"""What the operating system says about a disk, in four parts; whether there is room.

Every write for a run happens under `disk_errors`, so that a person reads the same words whether
the disk was full at the first byte or at the last fsync.
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

from headway.base.errors import MachineError, Remedy
from headway.base.units import size


def check_writable(folder: Path, need_bytes: int = 0) -> None:
    """Try to write where the run will write, creating nothing that stays.

    Raises:
        MachineError: the folder (or the nearest one above it that exists) takes no file,
            or has less than `need_bytes` free.
    """
    with disk_errors(folder):
        place = _nearest(folder.absolute())
    if not place.is_dir():
        raise MachineError(
            f"{place} is a file, a folder is needed",
            have="a file",
            need="a folder to write runs into",
            remedies=(Remedy("--output-dir runs2", "another folder"),),
        )
    with disk_errors(folder), tempfile.TemporaryFile(dir=place) as trial:
        trial.write(bytes(4096))
        trial.flush()
        os.fsync(trial.fileno())  # a quota, or a disk that fails, may be told here first
    free = shutil.disk_usage(place).free
    if free < need_bytes:
        raise MachineError(
            f"not enough disk for the checkpoints in {folder}",
            have=f"{size(free)} free",
            need=f"{size(need_bytes)}",
            remedies=(
                Remedy("--output-dir DIR", "a folder on a larger disk"),
                Remedy("--save-total-limit 1", "keep one checkpoint"),
            ),
        )


@contextmanager
def errors_from_rust() -> Generator[None]:
    """Make an OSError of what safetensors and tokenizers raise when a disk refuses.

    Their own exceptions carry the system's number in the text alone: "... (os error 28)".
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
    """Turn what the operating system says about a disk into four parts.

    Raises:
        MachineError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        place = path.parent if path.parent != Path() else Path.cwd()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"the disk is full: {path} was not written",
                have=f"{size(shutil.disk_usage(_nearest(place)).free)} free",
                need="room for one more checkpoint",
                remedies=(Remedy("--output-dir DIR", "a folder on another disk"),),
            ) from error
        if error.errno == errno.EFBIG:
            raise MachineError(
                f"{path} is larger than this process may write",
                have=f"at most {size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])} a file",
                need="no limit on the size of files",
                remedies=(Remedy("ulimit -f unlimited", "in the shell that starts it"),),
            ) from error
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise MachineError(
            f"{path} cannot be written",
            have=reason,
            need=f"a folder that user {os.getuid()} may write to"
            if refused
            else "a folder that takes what is written to it",
            remedies=(Remedy("--output-dir DIR", "a folder of your own, or on another disk"),),
        ) from error


def _nearest(path: Path) -> Path:
    return next((p for p in (path, *path.parents) if p.exists()), Path("/"))
