"""Folders of a command: a bounded look at what lies in them, without following links."""

import os
from collections.abc import Iterator
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


def _walk(folder: Path, depth: int) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, files first; none if it cannot be read."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    inner: list[os.DirEntry[str]] = []
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif depth < _MAX_DEPTH and entry.name not in _LEFT_OUT and not entry.name.startswith("."):
            inner.append(entry)
    for entry in inner:
        yield from _walk(Path(entry.path), depth + 1)
