"""Document groups: the documents of a packed row that one attention call computes.

A packed row is one long line of tokens without padding, in which documents follow each other. The
data side lays it out, the model side attends each document separately; this is all that the two
have to agree on.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Tokens `begin` up to, but not including, `end` of a packed row."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        """In tokens."""
        return self.end - self.begin

    @property
    def slice(self) -> slice:
        """To index the row with."""
        return slice(self.begin, self.end)


@dataclass(frozen=True, slots=True)
class DocumentGroup:
    """Documents of one length that follow each other in a packed row.

    Attributes:
        length: tokens of each document, without a shared prefix.
        count: number of documents.
        prefix: where in the row the prefix lies that all of them share: a group of one document,
            somewhere before this one. None where the documents have no prefix.
    """

    length: int
    count: int = 1
    prefix: RowSpan | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the row that the group takes."""
        return self.length * self.count


def document_lengths(groups: Iterable[DocumentGroup]) -> list[int]:
    """The length of each single document, in the row's order, without shared prefixes."""
    return [group.length for group in groups for _ in range(group.count)]
