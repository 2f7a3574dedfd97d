"""Git LFS pointers: small files that stand in for large ones that were not fetched."""

import shlex
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError

POINTER_BYTES = 1024  # at most
_BEGINNINGS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
)


def is_pointer(head: bytes) -> bool:
    """Whether content that begins like this is a pointer."""
    return head.startswith(_BEGINNINGS)


def is_pointer_file(path: Path) -> bool:
    """Whether a file is a pointer; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_pointer(file.read(POINTER_BYTES))
    except OSError:
        return False


def check_fetched(folder: Path) -> None:
    """Check that the files of a model folder are themselves there.

    Raises:
        UsageError: one is a pointer.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size <= POINTER_BYTES and is_pointer_file(path):
            raise UsageError(
                f"{path} is a Git LFS pointer",
                cause=Cause.WEIGHTS_MISSING,
                have="a short text that stands in for a file that was not fetched",
                need="the file itself",
                remedies=(fetch_remedy(str(path)),),
            )


def fetch_remedy(name: str) -> Remedy:
    """What replaces a pointer with the file it stands for.

    Args:
        name: of the file: a path, or an address.
    """
    if "://" in name:
        whole = name.replace("/raw/", "/resolve/", 1)
        if whole != name:
            return Remedy(whole, "the address of the file itself")
        return Remedy("git lfs pull", "in a clone of its repository, then train the file there")
    folder = Path(name).parent
    there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    return Remedy(f"{there}git lfs pull", "fetches the file itself")
