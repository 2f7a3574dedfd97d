"""Exchange of two folders in one step: at no moment is one of the names missing."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)  # an old kernel, or such a file system


def exchange(one: Path, other: Path) -> None:
    """Give two folders of one file system each other's names (Linux); elsewhere in three steps.

    Raises:
        OSError: one of them cannot be renamed.
    """
    if _exchanged(one, other):
        return
    aside = other.with_name(f"{other.name}.{os.getpid()}.aside")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the kernel did it.

    Raises:
        OSError: it can, and failed.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
