"""Text position: the long line that a process is reading from a file of text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headway.diagnose.evidence.facts import Link, OpenFile
from headway.diagnose.evidence.kernel.proc_files import fields_of, whole

TEXT = (".jsonl", ".json", ".txt", ".csv", ".tsv", ".md", ".ndjson", ".text", ".xml")
_MOST_BYTES = 1 << 26  # before the position, that are read to count lines
_AHEAD = 1 << 14  # how much more than it has given away a reader may have read
_LONG = 1 << 13  # bytes of a line that stands out


def with_lines(process: Path, files: Sequence[OpenFile]) -> tuple[OpenFile, ...]:
    """The open files of a process, with the long line that it is reading from each file of text.

    Readers read ahead: the position lies behind what they work on, by a buffer at most. So only a
    line as long as a buffer can be told from its neighbors. May block, as a disk may.

    Args:
        process: its folder in /proc.
        files: that it has open.
    """
    return tuple(
        replace(one, line=_line_being_read(process, one.descriptor))
        if one.link is Link.FILE and one.path.endswith(TEXT)
        else one
        for one in files
    )


def _line_being_read(process: Path, descriptor: int) -> int:
    """The number of a long line, from 1; 0 where none can be told."""
    name = str(descriptor)
    position = whole(fields_of(process / "fdinfo" / name).get("pos", ""))
    opened = process / "fd" / name  # the file itself, whatever lies at its path by now
    try:
        if not 0 < position <= _MOST_BYTES or not opened.is_file():
            return 0
        with opened.open("rb") as file:
            return _long_line(file.read(position))
    except OSError:  # closed meanwhile, or another user's
        return 0


def _long_line(data: bytes) -> int:
    """The number of the longest line that ends in the last bytes, if it is long."""
    start = max(0, len(data) - _AHEAD)
    first = data.rfind(b"\n", 0, start) + 1  # where the line begins that reaches into them
    lines = data[first:].split(b"\n")
    longest = max(range(len(lines)), key=lambda at: len(lines[at]))
    return data.count(b"\n", 0, first) + longest + 1 if len(lines[longest]) >= _LONG else 0
