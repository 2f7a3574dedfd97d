"""Frames: which library a call belongs to, and which call is a program's own."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from headway.diagnose.evidence.facts import Frame

_PACKAGES = re.compile(r".*/(?:site|dist)-packages/(.+)")
_STANDARD = re.compile(r".*/lib(?:64)?/python3\.\d+[^/]*/(?!site-packages/|dist-packages/)(.+)")
_OURS = re.compile(r".*/src/(headway/.+)")
_FROZEN = re.compile(r"<frozen (.+)>")
_OWN_PACKAGE = "headway"


def module_of(file: str) -> str:
    """The dotted name of the module in a file, "" for a program's own, which has no known name."""
    if frozen := _FROZEN.fullmatch(file):
        return frozen[1]
    for pattern in (_PACKAGES, _STANDARD, _OURS):
        if found := pattern.fullmatch(file):
            path = PurePath(found[1]).with_suffix("")
            parts = path.parts[:-1] if path.name == "__init__" else path.parts
            return ".".join(parts)
    return ""


def is_native(frame: Frame) -> bool:
    """Whether it is machine code."""
    return not frame.file


def is_own(frame: Frame) -> bool:
    """Whether it is the program's own Python code, Headway's included, and no library's."""
    if is_native(frame) or _FROZEN.fullmatch(frame.file):
        return False
    package = module_of(frame.file).partition(".")[0]
    return package in ("", _OWN_PACKAGE)


def own_frame(frames: Iterable[Frame]) -> Frame | None:
    """The innermost call of a program's own code; the innermost Python one if there is none."""
    python = [frame for frame in frames if not is_native(frame)]
    return next((frame for frame in python if is_own(frame)), python[0] if python else None)
