"""Stacks: whose code a thread is in, and how to say where."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from headway.diagnose.evidence.facts import Frame, ThreadFacts

_NATIVE = re.compile(r"\.(so|so\.[\d.]+|c|h|cc|cpp|cxx|cu|cuh|hpp|rs|S|s)$")
_STANDARD = re.compile(r"/lib(64)?/python\d[\d.]*t?/|^<frozen")
_INSTALLED = re.compile(r"/(site|dist)-packages/")


def is_native(frame: Frame) -> bool:
    """Whether it is a call of compiled code."""
    return not frame.file or bool(_NATIVE.search(frame.file))


def name(frame: Frame) -> str:
    """The function without its class: 'Queue.get' -> 'get'."""
    return frame.function.rpartition(".")[2]


def is_in(frame: Frame, *places: str) -> bool:
    """Whether a frame is in one of some modules or packages: 'queue', 'torch/utils/data'.

    A single word counts only in Python's own library and among installed packages: a person's
    folder may be called `datasets`, too.
    """
    path, library = f"/{frame.file}", is_library(frame)
    return any(
        f"/{place}/" in path or path.endswith(f"/{place}.py")
        for place in places
        if library or "/" in place
    )


def find_frame(thread: ThreadFacts, *places: str, functions: tuple[str, ...] = ()) -> Frame | None:
    """The innermost frame in some modules, of some functions if any are given."""
    return next(
        (
            frame
            for frame in thread.frames
            if is_in(frame, *places) and (not functions or name(frame) in functions)
        ),
        None,
    )


def python_frames(thread: ThreadFacts) -> Iterator[Frame]:
    """Calls of Python code, the innermost first."""
    return (frame for frame in thread.frames if not is_native(frame))


def innermost(thread: ThreadFacts) -> Frame | None:
    """The innermost call of Python code."""
    return next(python_frames(thread), None)


def native_top(thread: ThreadFacts) -> tuple[Frame, ...]:
    """The compiled code that the innermost Python function called."""
    found: list[Frame] = []
    for frame in thread.frames:
        if not is_native(frame):
            break
        found.append(frame)
    return tuple(found)


def symbols(thread: ThreadFacts) -> tuple[str, ...]:
    """The names of `native_top`."""
    return tuple(frame.function for frame in native_top(thread))


def is_library(frame: Frame) -> bool:
    """Whether it is code of Python itself or of an installed package."""
    return bool(_STANDARD.search(frame.file) or _INSTALLED.search(frame.file))


def own_frame(thread: ThreadFacts) -> Frame | None:
    """The innermost call of a person's own code; where there is none, of a package's."""
    frames = list(python_frames(thread))
    own = next((frame for frame in frames if not is_library(frame)), None)
    packaged = next((frame for frame in frames if _INSTALLED.search(frame.file)), None)
    return own or packaged or next(iter(frames), None)


def where(frame: Frame | None) -> str:
    """'step (train.py:12)'; 'an unknown function' without a frame."""
    if frame is None:
        return "an unknown function"
    function = "the module's top level" if frame.function == "<module>" else frame.function
    return f"{function} ({PurePosixPath(frame.file).name}:{frame.line})"


def where_is(thread: ThreadFacts) -> str:
    """Where a thread is: its own code first, then the library function that it called."""
    own, inner = own_frame(thread), innermost(thread)
    if own is None:
        return "code whose stack could not be read"
    if inner is None or inner is own:
        return where(own)
    return f"{inner.function}, called from {where(own)}"


_TAKEN = re.compile(r"\bwith\s+(.+?):(?:\s|$)")
_CALLED = re.compile(r"([\w.\[\]'\"]+)\.(acquire|get|put|join|wait|result|recv|get_nowait|all)\(")


def locks_named_in(source: str) -> tuple[str, ...]:
    """What a line takes or waits for: 'with self.a, b:' -> ('self.a', 'b'); 'q.get()' -> ('q',)."""
    if taken := _TAKEN.search(source):
        parts = (part.partition(" as ")[0].strip() for part in taken[1].split(","))
        return tuple(part for part in parts if re.fullmatch(r"[\w.\[\]'\"]+", part))
    return tuple(called[1] for called in _CALLED.finditer(source))


def short(lock: str) -> str:
    """'self.saver.lock' -> 'lock', the part that two pieces of code have in common."""
    return lock.rpartition(".")[2]
