"""Data source: a file, a stream or an address, as a value."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STANDARD_INPUT = "standard input"


@dataclass(frozen=True, slots=True)
class Source:
    """One file, stream or remote object.

    Attributes:
        name: as the user typed it, or below the folder they typed.
        path: None for standard input and remote sources.
        size: stored bytes; 0 if unknown.
        found: in a folder or by a pattern, not named; such a source is skipped if it is unusable.
        stamp: changes whenever the content does; empty if nothing identifies the content, as for
            a pipe.
        address: URL of a remote source. It may contain a password; the name never does.
        endpoint: of the S3-compatible store; empty for the default one.
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
        """Whether it is standard input, a pipe or a device, which can be read only once."""
        return not self.stamp and not self.address


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a source: bytes [begin, end).

    The rows of a span are the lines that begin in it, so adjacent spans share no row.
    """

    begin: int
    end: int


Chunks = Iterator[bytes]  # pieces of a source's content as they arrive
