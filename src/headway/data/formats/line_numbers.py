"""The line of a file that a part of it begins with, where only the part was read."""

import bisect
from dataclasses import replace
from pathlib import Path

from headway.data.formats.records import Rejected
from headway.data.sources.source import Source, Span

_PIECE_BYTES = 1 << 22


class LineNumbers:
    """Counts lines of files, from the nearest place where they were counted before."""

    def __init__(self) -> None:
        self._known: dict[Path, list[tuple[int, int]]] = {}

    def placed(self, rejected: Rejected, source: Source, span: Span | None) -> Rejected:
        """A row that is told of, with its line in the file, where it had its line in a span."""
        if span is None or not span.begin or source.path is None:
            return rejected
        return replace(rejected, line=rejected.line + self._before(source.path, span.begin))

    def _before(self, path: Path, offset: int) -> int:
        """Lines that begin in the first `offset` bytes."""
        known = self._known.setdefault(path, [(0, 0)])
        nearest = bisect.bisect_right(known, (offset, offset)) - 1
        at, lines = known[nearest]
        if at == offset:
            return lines
        with path.open("rb") as file:
            # A line begins behind each line end, and one with the file: hence one byte less.
            file.seek(max(at - 1, 0))
            left = offset - 1 - file.tell()
            lines += at == 0
            while left > 0:
                piece = file.read(min(left, _PIECE_BYTES))
                if not piece:
                    break
                lines += piece.count(b"\n")
                left -= len(piece)
        known.insert(nearest + 1, (offset, lines))
        return lines
