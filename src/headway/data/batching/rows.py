"""What the order numbers: a conversation, or one window of text.

Both kinds are seen through the same glass: a row is a list of pieces, and a piece is a run of
input positions [begin, end) in the store whose targets are the tokens one further on. So each
input position has its target, and no position is computed that has none.

Text, by targets (`max_length` = 4; a document's first token is nobody's target):

    stream    a0 a1 a2 a3 a4 | b0 b1 b2 b3 b4 b5
    targets      a1 a2 a3 a4      b1 b2 b3 b4 b5
    row 0       [a1 a2 a3 a4]                        inputs a0..a3
    row 1                        [b1 b2 b3 b4]       inputs b0..b3
    row 2                                    [b5]    the short row
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.survey.store import Store

VANISHED = "no answer left within max_length"  # why a conversation is no row


@dataclass(frozen=True, slots=True)
class Piece:
    """Input positions [begin, end) of one document in the store; targets are one further on."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Stretch:
    """T inputs of one document, and the token that follows each.

    Attributes:
        ids: (T + 1,) the inputs and the last one's target.
        trained: (T,) which targets are learned; None: all of them.
    """

    ids: NDArray[Any]
    trained: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.ids) - 1


class Rows(ABC):
    """What steps are made of, by row number."""

    @abstractmethod
    def stretches(self, row: int) -> list[Stretch]:
        """The documents, or parts of documents, that make up a row."""


class StoreRows(Rows):
    """All rows of a store at a `max_length`.

    Attributes:
        num_full: rows that the order permutes.
        has_short: text only: one more row, number `num_full`, shorter than the others.
        num_truncated: conversations that `max_length` cuts.
        num_vanished: conversations of these that lose every trained token; they are no rows.
    """

    def __init__(self, store: Store, max_length: int) -> None:
        self.store = store
        self.max_length = max_length
        self.num_full = 0
        self.has_short = False
        self.num_truncated = 0
        self.num_vanished = 0

    @property
    def num_rows(self) -> int:
        """Full rows and the short one."""
        return self.num_full + self.has_short

    def stretches(self, row: int) -> list[Stretch]:
        """The tokens of a row's pieces, mapped and not copied."""
        ids, trained = self.store.ids, self.store.trained
        return [
            Stretch(
                ids[piece.begin : piece.end + 1],
                None if trained is None else trained[piece.begin + 1 : piece.end + 1],
            )
            for piece in self.pieces(row)
        ]

    @abstractmethod
    def pieces(self, row: int) -> list[Piece]:
        """Where the documents, or parts of documents, of a row lie in the store."""

    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """(num_rows,) input positions of each row."""

    @abstractmethod
    def trained(self) -> int:
        """Targets that are learned in all rows together."""


def rows_of(store: Store, max_length: int) -> StoreRows:
    """The rows of a store: conversations or windows of text, as the survey found."""
    if store.survey.kind == "text":
        return TextRows(store, max_length)
    return ConversationRows(store, max_length)


class TextRows(StoreRows):
    """Windows of `max_length` targets over the documents in source order."""

    def __init__(self, store: Store, max_length: int) -> None:
        super().__init__(store, max_length)
        targets = np.maximum(np.diff(store.starts) - 1, 0)
        # ends[d]: targets up to and with document d
        self._ends: NDArray[np.int64] = np.cumsum(targets)
        self.num_targets = int(self._ends[-1]) if len(targets) else 0
        self.num_full, rest = divmod(self.num_targets, max_length)
        self.has_short = rest > 0

    def pieces(self, row: int) -> list[Piece]:
        """The parts of documents whose targets fall into the window."""
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
        """(num_rows,): `max_length` each, less for the short row."""
        lengths = np.full(self.num_rows, self.max_length, dtype=np.int64)
        if self.has_short:
            lengths[-1] = self.num_targets - self.num_full * self.max_length
        return lengths

    def trained(self) -> int:
        """Every target of a text is learned."""
        return self.num_targets


class ConversationRows(StoreRows):
    """A row per conversation, or record of tokens, up to its last trained token in `max_length`."""

    def __init__(self, store: Store, max_length: int) -> None:
        super().__init__(store, max_length)
        starts = store.starts
        trained = store.trained
        assert trained is not None, "a store of conversations has flags"
        full = np.diff(starts)
        positions = np.flatnonzero(trained)
        # for each conversation: its trained positions that survive the cut
        limit = starts[:-1] + np.minimum(full, max_length)
        first = np.searchsorted(positions, starts[:-1])
        stop = np.searchsorted(positions, limit)
        self.num_truncated = int((full > max_length).sum())
        kept = stop > first
        self.num_vanished = int((~kept).sum())
        self._example: NDArray[np.int64] = np.flatnonzero(kept)
        # the last trained position is a target only, so inputs end just before it
        self._end: NDArray[np.int64] = positions[stop[kept] - 1]
        self._begin: NDArray[np.int64] = starts[:-1][kept]
        self._num_trained = int((stop - first)[kept].sum())
        self.num_full = len(self._example)

    def pieces(self, row: int) -> list[Piece]:
        """The one conversation."""
        return [Piece(int(self._begin[row]), int(self._end[row]))]

    def lengths(self) -> NDArray[np.int64]:
        """(num_rows,): the tokens of each conversation that teach or are looked at."""
        return self._end - self._begin

    def trained(self) -> int:
        """Answer tokens that survive the cut."""
        return self._num_trained
