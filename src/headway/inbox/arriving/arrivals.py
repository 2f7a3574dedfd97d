"""Arrivals: which of the files in an inbox can be taken, and in which order.

Everything here is a function of what was listed, and of when it was listed by one clock of this
process: a file's own times are only compared with each other.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SETTLED_S = 1.0  # unchanged for so long, a file that nobody has open for writing is taken
STABLE_S = 3.0  # ... one of which nobody can tell who has it open
UNFINISHED_S = 60.0  # ... and whose last line has no end
# Names that belong to the inbox itself.
OWN_NAMES = frozenset({"processing", "done", "failed", "current_model", "headway.yaml"})
_UNFINISHED_NAMES = (".part", ".partial", ".tmp", ".crdownload", ".filepart", ".swp", "~")
_NS = 1_000_000_000
_NO_NUMBER = 1 << 62


class ArrivalKind(StrEnum):
    """What a name in the inbox stands for."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "a link"
    PIPE = "a pipe"
    SOCKET = "a socket"
    DEVICE = "a device"
    UNNAMED = "a name that is not valid text"


TAKEN = (ArrivalKind.FILE, ArrivalKind.FOLDER)


class FileWriter(StrEnum):
    """Whether a program has a file open for writing."""

    NONE = "none"
    ACTIVE = "active"
    UNKNOWN = "unknown"  # the file system, or its owner, does not let us see


@dataclass(frozen=True)
class Listed:
    """One name in the inbox, as it was found.

    Attributes:
        name: as the system gives it, which may be no valid text.
        kind: what it is; nothing was followed.
        stamp: changes whenever its content does.
        modified_ns: by the file system's clock; of a folder, the newest of its files.
        bytes: of it, or of all files in it.
        num_files: in a folder, at any depth; 1 for a file.
    """

    name: str
    kind: ArrivalKind
    stamp: tuple[int, ...]
    modified_ns: int
    bytes: int
    num_files: int = 1


@dataclass(frozen=True)
class SeenFile:
    """A name, and since when it has looked as it does now, by our own clock."""

    listed: Listed
    since_s: float


@dataclass(frozen=True)
class ProbedFile:
    """What opening a file showed."""

    writer: FileWriter
    ends_whole: bool = True  # its last line has an end, or it is no text


@dataclass(frozen=True)
class Waiting:
    """A name that is not taken yet, and why."""

    listed: Listed
    why: str


@dataclass(frozen=True)
class Arrivals:
    """What an inbox holds.

    Attributes:
        ready: to be taken, the first one first.
        waiting: for their writers.
        refused: what is neither a file nor a folder.
    """

    ready: tuple[Listed, ...]
    waiting: tuple[Waiting, ...]
    refused: tuple[Listed, ...]


def is_left_alone(name: str) -> bool:
    """Whether a name is the inbox's own, hidden, or one that programs give unfinished files."""
    return name in OWN_NAMES or name.startswith(".") or name.lower().endswith(_UNFINISHED_NAMES)


def watch(
    before: Mapping[str, SeenFile], now: Iterable[Listed], now_s: float
) -> dict[str, SeenFile]:
    """What is there now, each with the time since when it has not changed."""
    seen: dict[str, SeenFile] = {}
    for listed in now:
        if is_left_alone(listed.name):
            continue
        old = before.get(listed.name)
        same = old is not None and old.listed == listed
        seen[listed.name] = old if old and same else SeenFile(listed, now_s)
    return seen


def names_to_probe(seen: Mapping[str, SeenFile], now_s: float) -> list[str]:
    """The files and folders that have not changed for a while: the others are not opened."""
    return [
        name
        for name, one in seen.items()
        if one.listed.kind in TAKEN and now_s - one.since_s >= SETTLED_S
    ]


def sort_out(
    seen: Mapping[str, SeenFile],
    probed: Mapping[str, ProbedFile],
    now_s: float,
    priority: Sequence[str] = (),
) -> Arrivals:
    """Decide what can be taken.

    Args:
        seen: what is there.
        probed: what opening some of it showed.
        now_s: by the clock of `seen`.
        priority: patterns of names that come first, in this order.
    """
    ready: list[Listed] = []
    waiting: list[Waiting] = []
    refused: list[Listed] = []
    for name, one in seen.items():
        listed = one.listed
        if listed.kind not in TAKEN:
            refused.append(listed)
        elif why := _why_not(listed, probed.get(name), now_s - one.since_s):
            waiting.append(Waiting(listed, why))
        else:
            ready.append(listed)
    return Arrivals(
        tuple(sorted(ready, key=lambda one: _place_in_line(one, priority))),
        tuple(sorted(waiting, key=lambda one: _place_in_line(one.listed, priority))),
        tuple(sorted(refused, key=lambda one: one.name)),
    )


def _why_not(listed: Listed, probed: ProbedFile | None, quiet_s: float) -> str:
    """Why a file is not taken yet; "" if it can be."""
    if listed.kind is ArrivalKind.FOLDER and not listed.num_files:
        return "an empty folder"
    if probed is None:
        return "it changed just now"
    if probed.writer is FileWriter.ACTIVE:
        return "a program has it open for writing"
    # A folder is copied file by file: between two of them nothing is open.
    told = probed.writer is FileWriter.NONE and listed.kind is ArrivalKind.FILE
    needed_s = SETTLED_S if told else STABLE_S if probed.ends_whole else UNFINISHED_S
    if quiet_s >= needed_s:
        return ""
    return "it changed just now" if probed.ends_whole else "its last line is incomplete"


def _place_in_line(listed: Listed, priority: Sequence[str]) -> tuple[int, int, int, int, str]:
    """Oldest first, to the second; among equals a leading number decides, then the rest."""
    urgency = next(
        (at for at, pattern in enumerate(priority) if fnmatch.fnmatchcase(listed.name, pattern)),
        len(priority),
    )
    number = re.match(r"\d{1,18}", listed.name)
    leading = int(number[0]) if number else _NO_NUMBER
    return urgency, listed.modified_ns // _NS, leading, listed.modified_ns, listed.name
