"""Source line of a frame: the code that a thread is in, and the blocks around it."""

import itertools
from pathlib import Path
from typing import NamedTuple

from headway.base.files import regular_file
from headway.diagnose.redaction import hide_secrets

_LONGEST = 120  # characters of a line that are worth showing
_MOST_BYTES = 1 << 22  # of a file that is read for one line
_WITH = ("with ", "async with ")
_ENDS = ("def ", "async def ", "class ")


class SourceLine(NamedTuple):
    """A line of code.

    Attributes:
        text: without its indentation, "" where it cannot be read.
        inside: the `with` statements of the same function around it, the innermost first.
    """

    text: str = ""
    inside: tuple[str, ...] = ()


def source_line(file: str, line: int) -> SourceLine:
    """The text of a line.

    Never blocks: nothing but a regular file is opened. Secrets are left out.
    """
    if line < 1 or not file.endswith(".py"):
        return SourceLine()
    try:
        path = regular_file(Path(file))
        if path.stat().st_size > _MOST_BYTES:
            return SourceLine()
        with path.open(encoding="utf-8", errors="replace") as lines:
            read = list(itertools.islice(lines, line))
    except (OSError, ValueError):
        return SourceLine()
    if len(read) < line:
        return SourceLine()
    return SourceLine(_shown(read[-1]), tuple(map(_shown, _blocks_around(read))))


def _blocks_around(lines: list[str]) -> list[str]:
    """The `with` lines that the last line stands in, by indentation."""
    found: list[str] = []
    depth = _indentation(lines[-1])
    for text in reversed(lines[:-1]):
        code = text.strip()
        if not code or code.startswith("#") or _indentation(text) >= depth:
            continue
        depth = _indentation(text)
        if code.startswith(_ENDS):
            break
        if code.startswith(_WITH):
            found.append(text)
    return found


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip())


def _shown(text: str) -> str:
    return hide_secrets(text.strip())[:_LONGEST]
