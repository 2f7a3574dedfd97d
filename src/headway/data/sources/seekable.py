"""Seekable files over remote sources: each read is a range request."""

import io
from collections.abc import Callable
from typing import Any

from headway.data.sources.source import Chunks, Source

_BUFFER_BYTES = 1 << 16
ReadRange = Callable[[int, int], Chunks]  # the bytes [begin, end) as they arrive


def seekable_file(source: Source, read_range: ReadRange) -> io.BufferedReader:
    """A seekable file object over a remote source.

    Args:
        source: of known size.
        read_range: fetches bytes of it.
    """
    return io.BufferedReader(_RangeReader(source, read_range), _BUFFER_BYTES)


class _RangeReader(io.RawIOBase):
    def __init__(self, source: Source, read_range: ReadRange) -> None:
        super().__init__()
        self._size = source.size
        self._read_range = read_range
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
        for piece in self._read_range(begin, end):
            into[self._at - begin : self._at - begin + len(piece)] = piece
            self._at += len(piece)
        return self._at - begin
