"""Touched files: what a command wrote or changed in its folder and where its arguments point."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headway.guard.facts import TouchedFile

_MOST = 50_000  # entries that are looked at
_SKIPPED = {".git", "__pycache__", "node_modules", ".venv", "venv", ".tox", "site-packages"}
_OUTPUT_OPTION = re.compile(
    r"-{1,2}(?:[\w-]*[_-])?(?:output|out|save|log|logging|checkpoint|ckpt|root|run|results?|"
    r"work)(?:[_-](?:dir|directory|path|folder|root))?|-o|--(?:default_root_dir|dir)"
)


@dataclass
class TouchedFiles:
    """Files of some folders, compared with how they were when this was made.

    Args:
        folders: that are looked into.
        seconds: how long the first look may take.

    Attributes:
        is_whole: whether the first look saw everything.
    """

    folders: tuple[Path, ...]
    seconds: float = 0.2
    is_whole: bool = True
    _before: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._began_s = time.time()
        until_s = time.monotonic() + self.seconds
        for number, entry in enumerate(_files(self.folders)):
            if number >= _MOST or (number % 256 == 0 and time.monotonic() > until_s):
                self.is_whole = False
                break
            self._before.add(entry.path)

    def find(self, ignored: Path | None = None, seconds: float = 1.0) -> tuple[TouchedFile, ...]:
        """What was written since, the oldest first.

        Args:
            ignored: a folder of ours.
            seconds: how long it may take.
        """
        found: list[TouchedFile] = []
        until_s = time.monotonic() + seconds
        inside = f"{ignored.absolute()}{os.sep}" if ignored else "\0"
        for number, entry in enumerate(_files(self.folders)):
            if number >= _MOST or time.monotonic() > until_s:
                break
            if entry.path.startswith(inside):
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                changed_s = max(status.st_mtime, status.st_ctime) - self._began_s
                is_new = self.is_whole and entry.path not in self._before
                if changed_s >= -0.01 or is_new:
                    at_s = max(status.st_mtime - self._began_s, 0.0)
                    found.append(TouchedFile(Path(entry.path), status.st_size, at_s, is_new))
        return tuple(sorted(found, key=lambda one: one.changed_at_s))


def output_folders(command: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Folders outside of `folder` that arguments name as places for output.

    Args:
        command: its arguments.
        folder: that it runs in.
    """
    found: list[Path] = []
    for number, word in enumerate(command[1:], 1):
        name, equals, value = word.partition("=")
        if not equals:
            value = command[number + 1] if number + 1 < len(command) else ""
        if not value or not _OUTPUT_OPTION.fullmatch(name) or "://" in value:
            continue
        path = (folder / value).resolve()
        if not path.is_relative_to(folder.resolve()) and path.parent != path and path not in found:
            found.append(path)
    return tuple(found[:10])


def _files(folders: Sequence[Path]) -> Iterator["os.DirEntry[str]"]:
    waiting = [str(folder) for folder in folders]
    while waiting:
        inner: list[str] = []
        try:
            with os.scandir(waiting.pop(0)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in _SKIPPED:
                            inner.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry
        except OSError:
            continue
        waiting += inner
