"""Used folders: where a process works, writes, and what its command names."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import fields_of, text_of

_MOST = 8  # folders of one process
_CODE = (".py", ".sh", ".pyc", ".so", ".ipynb")


def used_folders(process: Path) -> tuple[Path, ...]:
    """Folders whose disks matter to a process, as seen through its own root; may be no folders.

    Args:
        process: its folder in /proc.
    """
    with suppress(OSError):
        place = (process / "cwd").readlink()
        named = (place, *_written(process), *_of_command(process, place))
        found = dict.fromkeys(_seen(process, one) for one in named)
        return tuple(found)[:_MOST]
    return ()


def plain(folder: Path) -> Path:
    """The folder as its process sees it: '/proc/42/root/tmp/x' -> '/tmp/x'."""
    parts = folder.parts
    through = parts[1:2] == ("proc",) and parts[3:4] == ("root",)
    return Path("/", *parts[4:]) if through else folder


def _seen(process: Path, path: Path) -> Path:
    return process / "root" / path.relative_to("/") if path.is_absolute() else path


def _written(process: Path) -> Iterator[Path]:
    """The folders of the files that it has open to write."""
    for entry in (process / "fdinfo").iterdir():
        flags = fields_of(entry).get("flags", "0")
        if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
            continue
        with suppress(OSError):
            target = (process / "fd" / entry.name).readlink()
            if target.is_absolute() and target.parts[1] not in ("dev", "proc", "sys"):
                yield target.parent


def _of_command(process: Path, place: Path) -> Iterator[Path]:
    """The folders that the arguments name, and those of the files that they name."""
    for word in text_of(process / "cmdline").split("\0")[1:]:
        text = word.rpartition("=")[2]
        if "/" in text and "://" not in text and not text.endswith(_CODE):
            path = place / text
            yield path if path.suffix == "" else path.parent
