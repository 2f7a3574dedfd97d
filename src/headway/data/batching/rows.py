"""Rows: tokenized training sequences, each one conversation or one window of text.

A row of either kind is a list of pieces. A piece is a range of input positions [begin, end) in the
store; the target of each position is the next token. So every input position has a target, and no
position without one is computed.

Text, by targets (`max_length` = 4; the first token of a document is never a target):

    stream    a0 a1 a2 a3 a4 | b0 b1 b2 b3 b4 b5
    targets      a1 a2 a3 a4      b1 b2 b3 b4 b5
    row 0       [a1 a2 a3 a4]                        inputs a0..a3
    row 1                        [b1 b2 b3 b4]       inputs b0..b3
    row 2                                    [b5]    the short row
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.survey.store import Store


@dataclass(frozen=True, slots=True)
class Piece:
    """Input positions [begin, end) of one document in the store; each target is the next token."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Segment:
    """T consecutive inputs of one document, and their targets.

    Attributes:
        ids: (T + 1,) the inputs, and the target of the last one.
        trained: (T,) which targets are trained; None: all of them.
    """

    ids: NDArray[Any]
    trained: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.ids) - 1


class Rows(ABC):
    """Rows by number."""

    @property
    def own(self) -> "Rows":
        """The rows of the run itself, where others are mixed in."""
        return self

    @abstractmethod
    def segments(self, row: int) -> list[Segment]:
        """The documents, or parts of documents, that make up a row."""


class StoreRows(Rows):
    """All rows of a store at a `max_length`.

    Attributes:
        num_full: rows that the order permutes.
        has_short: text only: there is one more, shorter row, number `num_full`.
        num_truncated: conversations cut to `max_length`.
        num_without_answer: of these, conversations cut before their first trained token; they give
            no row.
    """

    def __init__(self, store: Store, max_length: int) -> None:
        self.store = store
        self.max_length = max_length
        self.num_full = 0
        self.has_short = False
        self.num_truncated = 0
        self.num_without_answer = 0

    @property
    def num_rows(self) -> int:
        """Full rows and the short row."""
        return self.num_full + self.has_short

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row's pieces, memory-mapped."""
        ids, trained = self.store.ids, self.store.trained
        return [
            Segment(
                ids[piece.begin : piece.end + 1],
                None if trained is None else trained[piece.begin + 1 : piece.end + 1],
            )
            for piece in self.pieces(row)
        ]

    @abstractmethod
    def pieces(self, row: int) -> list[Piece]:
        """Positions in the store of the documents, or parts of documents, of a row."""

    def digests(self) -> NDArray[np.uint64]:
        """(num_full,) a hash of the tokens of each full row, and of where its documents begin."""
        ids = np.asarray(self.store.ids)
        digests = np.empty(self.num_full, np.uint64)
        for row in range(self.num_full):
            digest = hashlib.blake2b(digest_size=8)
            for piece in self.pieces(row):
                digest.update(len(piece).to_bytes(8, "little"))
                digest.update(ids[piece.begin : piece.end + 1].tobytes())
            digests[row] = int.from_bytes(digest.digest(), "little")
        return digests

    def are_alone(self) -> NDArray[np.bool_]:
        """(num_full,) which full rows have no identical one."""
        _, inverse, counts = np.unique(self.digests(), return_inverse=True, return_counts=True)
        return counts[inverse] == 1

    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """(num_rows,) input positions of each row."""

    @abstractmethod
    def num_trained(self) -> int:
        """Trained targets of all rows."""


def rows_of(store: Store, max_length: int) -> StoreRows:
    """The rows of a store: text windows, or conversations, as its survey says."""
    if store.survey.kind == "text":
        return TextRows(store, max_length)
    return ConversationRows(store, max_length)


class TextRows(StoreRows):
    """Windows of `max_length` targets over the documents, in source order."""

    def __init__(self, store: Store, max_length: int) -> None:
        super().__init__(store, max_length)
        targets = np.maximum(np.diff(store.starts) - 1, 0)
        # self._ends[d]: targets of documents 0 to d
        self._ends: NDArray[np.int64] = np.cumsum(targets)
        self.num_targets = int(self._ends[-1]) if len(targets) else 0
        self.num_full, rest = divmod(self.num_targets, max_length)
        self.has_short = rest > 0

    def pieces(self, row: int) -> list[Piece]:
        """The parts of documents whose targets are in the window."""
        first = row * self.max_length
        last = min(first + self.max_length, self.num_targets)
        pieces: list[Piece] = []
        document = int(np.searchsorted(self._ends, first, side="right"))
        while first < last:
            before = int(self._ends[document - 1]) if document else 0
            stop = min(last, int(self._ends[document]))
            begin = int(self.store.starts[document]) + first - before
            if stop > first:
                pieces.append(Piece(begin, begin + stop - first))
            first, document = stop, document + 1
        return pieces

    def lengths(self) -> NDArray[np.int64]:
        """(num_rows,): `max_length`, except for the short row."""
        lengths = np.full(self.num_rows, self.max_length, dtype=np.int64)
        if self.has_short:
            lengths[-1] = self.num_targets - self.num_full * self.max_length
        return lengths

    def num_trained(self) -> int:
        """All targets of text are trained."""
        return self.num_targets


class ConversationRows(StoreRows):
    """One row per conversation or token record, up to its last trained token in `max_length`."""

    def __init__(self, store: Store, max_length: int) -> None:
        super().__init__(store, max_length)
        starts = store.starts
        trained = store.trained
        assert trained is not None, "a store of conversations has training flags"
        full = np.diff(starts)
        positions = np.flatnonzero(trained)
        # For each conversation, the trained positions within max_length.
        limit = starts[:-1] + np.minimum(full, max_length)
        first = np.searchsorted(positions, starts[:-1])
        stop = np.searchsorted(positions, limit)
        self.num_truncated = int((full > max_length).sum())
        kept = stop > first
        self.num_without_answer = int((~kept).sum())
        self._example: NDArray[np.int64] = np.flatnonzero(kept)
        # The last trained position is only a target, so the inputs end before it.
        self._end: NDArray[np.int64] = positions[stop[kept] - 1]
        self._begin: NDArray[np.int64] = starts[:-1][kept]
        self._num_trained = int((stop - first)[kept].sum())
        self.num_full = len(self._example)

    def pieces(self, row: int) -> list[Piece]:
        """The conversation as one piece."""
        return [Piece(int(self._begin[row]), int(self._end[row]))]

    def lengths(self) -> NDArray[np.int64]:
        """(num_rows,): input tokens of each conversation."""
        return self._end - self._begin

    def num_trained(self) -> int:
        """Answer tokens within `max_length`."""
        return self._num_trained
