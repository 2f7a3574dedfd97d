"""Folders of a command: a bounded look at their contents, without following links."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_MAX_ENTRIES = 20_000
_MAX_DEPTH = 4
_LEFT_OUT = frozenset(
    {
        "node_modules",
        "site-packages",
        "__pycache__",
        "venv",
        "env",
        "wandb",
        "mlruns",
        "dist-packages",
    }
)


def find_named(folders: tuple[Path, ...], name: str, max_found: int = 500) -> tuple[Path, ...]:
    """Regular files of one name in folders and the folders in them, few levels deep.

    Args:
        folders: to look into, the ones that matter most first.
        name: of the files.
        max_found: files, at most.
    """
    found: dict[Path, None] = {}
    left = _MAX_ENTRIES
    for folder in folders:
        for entry in _walk(folder, 0):
            left -= 1
            if left < 0 or len(found) >= max_found:
                return tuple(found)
            if entry.name == name and entry.is_file(follow_symlinks=False):
                found[Path(entry.path)] = None
    return tuple(found)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for what can be no path at all, unlike `Path.is_file`."""
    return _is(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return _is(path, Path.is_dir)


def _is(path: Path, check: Callable[[Path], bool]) -> bool:
    try:
        return check(path)
    except (OSError, ValueError):  # too long, not permitted, a NUL in it
        return False


def _walk(folder: Path, depth: int) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, files first; none if it cannot be read."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except (OSError, ValueError):
        return
    inner: list[os.DirEntry[str]] = []
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif depth < _MAX_DEPTH and entry.name not in _LEFT_OUT and not entry.name.startswith("."):
            inner.append(entry)
    for entry in inner:
        yield from _walk(Path(entry.path), depth + 1)
