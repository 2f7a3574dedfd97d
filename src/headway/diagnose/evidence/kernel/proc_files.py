"""Kernel files: their text, lines and named fields, empty where they cannot be read."""

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def text_of(path: Path) -> str:
    """The text of a file; "" if it is gone, or another user's."""
    with suppress(OSError):
        return path.read_bytes().decode(errors="replace")
    return ""


def fields_of(path: Path) -> dict[str, str]:
    """`name: value` lines by name, as in /proc/PID/status."""
    pairs = (line.split(":", 1) for line in text_of(path).splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def whole(text: str) -> int:
    """The first whole number of a value such as "12 kB"; 0 if there is none."""
    word = text.split(maxsplit=1)[0] if text.strip() else ""
    return int(word) if word.isdecimal() else 0


def stat_fields(path: Path) -> list[str]:
    """The fields of a /proc/.../stat after the name, the state first; none if it is gone.

    The name, in parentheses, may contain anything.
    """
    return text_of(path).rpartition(")")[2].split()
