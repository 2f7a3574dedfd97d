"""Seekable files over remote sources: each read is a range request."""

import io
from collections.abc import Callable
from typing import Any

from headway.data.sources.source import Chunks, Source

_BUFFER_BYTES = 1 << 16
Part = Callable[[int, int], Chunks]


def seekable(source: Source, part: Part) -> io.BufferedReader:
    """A file object over a source of known size.

    Args:
        source: elsewhere.
        part: the bytes [begin, end) as they arrive.
    """
    return io.BufferedReader(_Parts(source, part), _BUFFER_BYTES)


class _Parts(io.RawIOBase):
    def __init__(self, source: Source, part: Part) -> None:
        super().__init__()
        self._size = source.size
        self._part = part
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        end = min(self._at + len(into), self._size)
        begin = self._at
        if begin >= end:
            return 0
        for piece in self._part(begin, end):
            into[self._at - begin : self._at - begin + len(piece)] = piece
            self._at += len(piece)
        return self._at - begin
