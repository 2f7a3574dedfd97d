"""Listed rows: rows stored in a file as tokens, apart from the data that they came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headway.data.batching.rows import Rows, Segment


@dataclass(frozen=True)
class ListedSegment:
    """Tokens of one document, or part of one, in a row.

    Attributes:
        ids: the inputs, and the target of the last one.
        trained: ranges [begin, end) of the targets that count; None: all of them.
    """

    ids: list[int]
    trained: list[tuple[int, int]] | None = None

    @classmethod
    def of(cls, segment: Segment) -> "ListedSegment":
        """The tokens of a segment."""
        if segment.trained is None:
            return cls(segment.ids.tolist())
        flags = np.concatenate([[False], segment.trained, [False]])
        edges = np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2)
        return cls(segment.ids.tolist(), [(begin, end) for begin, end in edges.tolist()])

    def cut(self, num_inputs: int) -> "ListedSegment | None":
        """The first inputs; None if no target of them counts."""
        trained = self.trained
        if trained is not None:
            trained = [(a, min(b, num_inputs)) for a, b in trained if a < num_inputs]
        if num_inputs < 1 or trained == []:
            return None
        return ListedSegment(self.ids[: num_inputs + 1], trained)

    def segment(self) -> Segment:
        """The same for batches."""
        ids = np.array(self.ids, dtype=np.int64)
        if self.trained is None:
            return Segment(ids, None)
        flags = np.zeros(len(ids) - 1, dtype=np.bool_)
        for begin, end in self.trained:
            flags[begin:end] = True
        return Segment(ids, flags)


ListedRow = tuple[ListedSegment, ...]


class ListedRows(Rows):
    """Rows by their place in a list."""

    def __init__(self, rows: Sequence[ListedRow]) -> None:
        self._rows = rows

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row."""
        return [one.segment() for one in self._rows[row]]


def cut_rows(rows: Sequence[ListedRow], max_length: int) -> list[ListedRow]:
    """Rows of at most so many inputs; those in which no target would count are left out."""
    return [row for one in rows if (row := _cut_row(one, max_length))]


def _cut_row(row: ListedRow, max_length: int) -> ListedRow:
    found: list[ListedSegment] = []
    left = max_length
    for segment in row:
        kept = segment.cut(min(left, len(segment.ids) - 1))
        found += [kept] if kept else []
        left -= len(segment.ids) - 1
    return tuple(found)
