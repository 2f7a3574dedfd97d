"""Run name: valid folder names, and a default made from the source's name.

A run's folder lies in the output folder and is copied to other disks and systems. Its name must
mean one folder there, on all of them, and be easy to type. `place` appends -2 and more to it, and
`--fresh` a date.
"""

import unicodedata
from pathlib import Path

from headway.base.addresses import hide_credentials

MAX_BYTES = 120  # some file systems take 143, and what is appended takes 23
_MAX_MADE = 60  # characters: a name that is made should also be short
_RESERVED = '/\\:*?"<>|'  # on some file systems, and on Windows
_SUFFIX = "-test"


def check_run_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: it cannot be a run's name; the message says what is needed.
    """
    if name.startswith((".", "-", "~")):
        raise ValueError("a name that does not begin with a period, a hyphen or a tilde")
    if any(character in _RESERVED for character in name):
        raise ValueError(f"one folder's name, without {' '.join(_RESERVED)}")
    if not all(map(_is_visible, name)):
        raise ValueError("visible characters: no control or invalid ones")
    if name != name.strip() or name.endswith("."):
        raise ValueError("a name without spaces around it or a period at its end")
    if len(name.encode()) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES} bytes, {len(name.encode())} were given")
    return name


def make_run_name(source: str, *, trial: bool = False) -> str:
    """A run's name from the stem of its first source, in characters that suit every folder name.

    Args:
        source: a path, a pattern or an address, which may hold a password.
        trial: it is a test run.
    """
    named = hide_credentials(source)
    is_open = source in ("-", "/dev/stdin") or source.startswith(("/dev/fd/", "/proc/self/fd/"))
    stem = "stdin" if is_open else Path(named.rstrip("/*")).name.split(".")[0]
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem)
    suffix = _SUFFIX if trial else ""
    return append_to_name(kept.strip("-")[:_MAX_MADE].rstrip("-") or "run", suffix)


def append_to_name(name: str, suffix: str) -> str:
    """A run's name with something after it, cut if it would become too long."""
    while len((name + suffix).encode()) > MAX_BYTES:
        name = name[:-1]
    return name + suffix


def _is_visible(character: str) -> bool:
    """Whether it is visible: not a control, format, invalid or unknown character."""
    return character == " " or unicodedata.category(character)[0] not in "CZ"
