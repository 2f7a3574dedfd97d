"""Data source: a file, a stream or an address, as a value."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STANDARD_INPUT = "standard input"


@dataclass(frozen=True, slots=True)
class Source:
    """One file or stream.

    Attributes:
        name: as the person typed it, or below the folder they typed.
        path: None for standard input and for what is not on this machine.
        size: bytes as stored; 0 where nobody knows.
        found: in a folder or by a pattern, not named: when it is unusable it is passed over.
        stamp: what changes when the content does; empty where nothing tells, as for a pipe, which
            is never the same twice.
        address: a URL, of what is not on this machine. It may hold a password: the name does not.
        endpoint: of the S3-compatible store; empty where the address says all.
    """

    name: str
    path: Path | None
    size: int = 0
    found: bool = False
    stamp: tuple[int | str, ...] = ()
    address: str = field(default="", repr=False)
    endpoint: str = ""

    @property
    def is_stream(self) -> bool:
        """Standard input, a pipe, a device: read once, as it arrives."""
        return not self.stamp and not self.address


def display_name(name: str) -> str:
    """A name that is safe to print, log and store: an address without password and query.

    A query may be a signature, which gives access to the file.
    """
    whole = re.fullmatch(r"(https?://)(?:[^/?#]*@)?([^?#]*).*", name, re.IGNORECASE | re.DOTALL)
    return whole[1] + whole[2] if whole else name


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a source: bytes [begin, end).

    The rows of a span are the lines that begin in it, so that spans that meet share no row.
    """

    begin: int
    end: int


Chunks = Iterator[bytes]  # pieces of a source's content, as they arrive
