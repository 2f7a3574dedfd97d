"""Export output: a folder that appears whole, compared and durable, or not at all.

Everything is written into a hidden folder beside the final one, on the same disk, whose name says
which process it belongs to. The final name appears by one rename, after the last comparison; what a
killed process left is deleted by the next export to the same place.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, MachineError, OurBug, Refusal, Remedy, UsageError
from headway.base.files import (
    MANIFEST,
    Manifest,
    make_folder,
    regular_file,
    sync_folder,
    write_folder,
)
from headway.base.process_id import ProcessId
from headway.base.units import size
from headway.export.exchange import exchange
from headway.export.request import NOTE, SCHEMA

ELSEWHERE = Remedy("-o DIR", "a folder of your own, or on another disk")
_LONGEST_NAME = 120  # bytes: names of its files and of hidden folders are made from it
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ +-]*")


def check_name(name: str, what: str) -> str:
    """Check that a name makes a file in a folder, and never leads out of it; returns it.

    Args:
        name: as a person typed it.
        what: the option it was given with.

    Raises:
        UsageError: it does not.
    """
    if _PLAIN.fullmatch(name) and len(name) <= _LONGEST_NAME and not name.endswith(" "):
        return name
    raise UsageError(
        f"{what}: {name[:80] or 'nothing'} is not a name for a file",
        cause=Cause.INVALID_VALUE,
        have=repr(name[:80]),
        need=f"letters, digits, and . _ + - between them, at most {_LONGEST_NAME}",
        remedies=(Remedy(f"{what} {file_name(name)}"),),
    )


def file_name(text: str) -> str:
    """A name for a file, as near to a text as can be."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(text).name).strip("-.+ ")[:_LONGEST_NAME]
    return name.rstrip("-.+ ") or "model"


def check_output(output: Path, source: Path, to: str) -> None:
    """Check, before anything is read, that an export may be written here.

    An earlier export for the same program is replaced; nothing else is ever deleted.

    Args:
        output: the folder, absolute.
        source: what is exported.
        to: the target's name.

    Raises:
        UsageError: something else is there.
    """
    inside = source.resolve() in (output.resolve(), *output.resolve().parents)
    if inside or output.resolve() in source.resolve().parents:
        raise _in_the_way(output, f"{source} is exported, and must stay as it is")
    check_replaceable(output, to)


def check_replaceable(output: Path, to: str) -> None:
    """Check that nothing is in a folder but an earlier export for the same program.

    Raises:
        UsageError: something else is there.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise _in_the_way(output, "a link" if output.is_symlink() else "a file")
    if not output.is_dir():
        return
    names = sorted(path.name for path in output.iterdir())
    if not names:
        return
    if _exported_for(output) == to:
        names = sorted({*names} - _written_names(output))  # what somebody added since
        if not names:
            return
    have = f"{', '.join(names[:4])}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    raise _in_the_way(output, have)


@contextlib.contextmanager
def scratch_folder(output: Path) -> Generator[Path]:
    """A hidden folder beside the output, on the same disk; deleted at the end.

    Raises:
        MachineError: it cannot be made.
    """
    make_folder(output.parent, ELSEWHERE)
    for left in output.parent.glob(f".{_escaped(output.name)}.*-*.export"):
        found = re.fullmatch(r".*\.(\d+)-(\d+)\.export", left.name)
        if found and not ProcessId(int(found[1]), int(found[2])).is_alive:
            shutil.rmtree(left, ignore_errors=True)
    mine = ProcessId.mine()
    scratch = output.with_name(f".{output.name}.{mine.pid}-{mine.started}.export")
    with disk_errors(output, ELSEWHERE):
        scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_room(place: Path, need_bytes: int, what: str) -> None:
    """Check that a disk has room, before anything is written to it.

    Args:
        place: a folder on it.
        need_bytes: how much will be written.
        what: will be written, as the subject of a sentence.

    Raises:
        MachineError: it has not.
    """
    with disk_errors(place, ELSEWHERE):
        free = shutil.disk_usage(place).free
    if free < need_bytes:
        raise MachineError(
            f"{what} does not fit on the disk",
            cause=Cause.DISK_FULL,
            have=f"{size(free)} free in {place.parent}",
            need=size(need_bytes),
            remedies=(Remedy("-o DIR", "a folder on a larger disk"),),
        )


def publish(output: Path, scratch: Path, to: str, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder, make it durable, and give it its name.

    Args:
        output: the final folder.
        scratch: of `scratch_folder`.
        to: the target's name.
        fill: writes into the folder that it is given; what it raises leaves nothing behind.

    Raises:
        MachineError: the disk is full or failing.
        UsageError: something else appeared there meanwhile.
    """
    whole = scratch / "whole"
    write_folder(whole, fill, ELSEWHERE)
    check_replaceable(output, to)
    with disk_errors(output, ELSEWHERE):
        if output.exists():
            exchange(whole, output)  # what was there goes with the hidden folder
        else:
            whole.rename(output)
        sync_folder(output.parent)


def check_files(folder: Path, names: Sequence[str]) -> None:
    """Check what a target says it wrote: regular files in its folder, and nowhere else.

    Raises:
        OurBug: it wrote something else.
    """
    for name in names:
        try:
            inside = Path(name).name == name and name not in ("", ".", "..")
            if inside and regular_file(folder / name):
                continue
        except OSError:
            pass
        raise OurBug(
            f"an export target wrote {name!r}, which is no file in its folder",
            cause=Cause.BUG,
            have=name,
            need="a bug report",
        )


def _exported_for(folder: Path) -> str:
    """The program that an earlier export in a folder was for; "" if it is something else."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        note = msgspec.json.decode(regular_file(folder / NOTE).read_bytes(), type=_Note)
        return note.options.to if note.schema == SCHEMA else ""
    return ""


def _written_names(folder: Path) -> set[str]:
    """The files that an earlier export wrote, by its manifest."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        content = regular_file(folder / MANIFEST).read_bytes()
        return {MANIFEST, *msgspec.json.decode(content, type=Manifest).files}
    return set()


class _NotedOptions(msgspec.Struct):
    to: str


class _Note(msgspec.Struct):
    schema: str
    options: _NotedOptions


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _in_the_way(output: Path, have: str) -> Refusal:
    other = output.with_name(f"{output.name}-2")
    return UsageError(
        f"{output} is not written over",
        cause=Cause.NOT_WRITABLE,
        have=have,
        need="a new folder, an empty one, or an earlier export for the same program",
        remedies=(Remedy(f"-o {other}", "a folder of its own"),),
    )
