"""Examples -> leaves -> dense micro-batches.

N is tokens of a micro-batch, M the trained ones of these, R its rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.base.documents import DocumentGroup, Span
from headway.data.batching.rows import Rows, Stretch
from headway.data.batching.shared_prefixes import Family, families
from headway.data.order import Numbers

Stretches = Mapping[int, Sequence[Stretch]]  # of each row, by number

_SCORES = 1 << 22  # of one head over what a family begins with, in one micro-batch


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some rows as one line of tokens without padding, documents sorted by length.

    Rows that begin alike may share what they begin with: it stands once in the line, as a document
    by itself, and each row's own document goes on from there. So a position may predict a target
    for each of several rows.

    Attributes:
        rows_R: (R,) row numbers.
        ids_N: (N,) input tokens.
        positions_N: (N,) from 0 in each document, or from where it goes on.
        trained_at_M: (M,) where in the line a trained target is predicted.
        targets_M: (M,) these targets.
        documents: groups in the line's order, a shared prefix before its documents.
        num_tokens: input tokens of the rows, each row's own; more than N where rows share.
    """

    rows_R: Numbers
    ids_N: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    trained_at_M: NDArray[np.int64]
    targets_M: NDArray[np.int64]
    documents: tuple[DocumentGroup, ...]
    num_tokens: int


def num_leaves(tokens: int, rows: int, *, leaf_tokens: int = 2048) -> int:
    """Leaves of a step: the largest power of two up to 8, with a row and `leaf_tokens` each.

    What a leaf costs by itself is a pass over all gradients; that must be little beside its work.
    """
    most = max(1, min(8, rows, tokens // leaf_tokens))
    return _power_of_two(most)


def pack(
    rows: Rows, numbers: Numbers, leaves: int, micro_batch_tokens: int, *, share: bool = False
) -> tuple[tuple[MicroBatch, ...], ...]:
    """A step's rows as leaves of micro-batches; which goes where depends on nothing else.

    Args:
        rows: where their tokens are.
        numbers: the step's row numbers.
        leaves: at most so many; a small last step has fewer, so that none is empty.
        micro_batch_tokens: at most so many tokens run at once; a longer row runs by itself.
        share: rows that begin alike run what they begin with once in each micro-batch.
    """
    stretches = {int(n): rows.stretches(int(n)) for n in numbers}
    return tuple(
        tuple(laid_out(group, stretches) for group in leaf)
        for leaf in arranged(stretches, leaves, micro_batch_tokens, share=share)
    )


def arranged(
    stretches: Stretches, leaves: int, micro_batch_tokens: int, *, share: bool = False
) -> list[list[list[Family]]]:
    """Which rows are in which micro-batch of which leaf; the arguments are those of `pack`."""
    lengths = {n: sum(map(len, parts)) for n, parts in stretches.items()}
    parts = list(_parts(stretches, lengths, micro_batch_tokens, share=share))
    sizes = {part: computed(part, lengths) for part in parts}
    # Longest first, each to the leaf with least so far: leaves come out even.
    longest_first = sorted(parts, key=lambda part: (-sizes[part], part.rows))
    num = min(leaves, _power_of_two(len(parts)))
    filled: list[list[Family]] = [[] for _ in range(num)]
    totals = [0] * num
    for part in longest_first:
        leaf = totals.index(min(totals))
        filled[leaf].append(part)
        totals[leaf] += sizes[part]
    return [_within(leaf, lengths, micro_batch_tokens) for leaf in filled]


def alike(rows: Rows, numbers: Numbers) -> Family | None:
    """Those that share the most with others of them; None where none do."""
    stretches = {int(n): rows.stretches(int(n)) for n in numbers}
    found = families({n: one[0].ids[:-1] for n, one in stretches.items() if len(one) == 1})
    most = max(found, key=lambda family: family.begins, default=None)
    return most if most and most.begins else None


def computed(family: Family, lengths: Mapping[int, int]) -> int:
    """Tokens of its rows that run: what they begin with once."""
    return sum(lengths[n] for n in family.rows) - (len(family.rows) - 1) * family.begins


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)


def _parts(
    stretches: Stretches, lengths: Mapping[int, int], budget: int, *, share: bool
) -> Iterator[Family]:
    """Families, each small enough for a micro-batch, and rows by themselves."""
    # Parts of several documents begin anywhere.
    alike = {n: parts[0].ids[:-1] for n, parts in stretches.items() if share and len(parts) == 1}
    yield from (Family((n,), 0) for n in stretches if n not in alike)
    for family in families(alike):
        yield from _cut(family, lengths, budget)


def _cut(family: Family, lengths: Mapping[int, int], budget: int) -> Iterator[Family]:
    """A family in parts that fit into a micro-batch, rows of nearly one length together."""
    part: list[int] = []
    tokens, scores = family.begins, 0
    for n in sorted(family.rows, key=lambda n: (lengths[n], n)):
        own = lengths[n] - family.begins
        if part and (tokens + own > budget or scores + own * lengths[n] > _SCORES):
            yield _family(part, family.begins)
            part, tokens, scores = [], family.begins, 0
        part.append(n)
        tokens, scores = tokens + own, scores + own * lengths[n]
    yield _family(part, family.begins)


def _family(rows: Sequence[int], begins: int) -> Family:
    return Family(tuple(rows), begins if len(rows) > 1 else 0)


def _scores(family: Family, lengths: Mapping[int, int]) -> int:
    """Of one head: each token's own with all that it may look at."""
    if not family.begins:
        return 0
    return sum((lengths[n] - family.begins) * lengths[n] for n in family.rows)


def _within(leaf: Iterable[Family], lengths: Mapping[int, int], budget: int) -> list[list[Family]]:
    """A leaf's families, in their order, as micro-batches."""
    groups: list[list[Family]] = []
    tokens = scores = 0
    for family in leaf:
        size, more = computed(family, lengths), _scores(family, lengths)
        if not groups or tokens + size > budget or scores + more > _SCORES:
            groups.append([])
            tokens = scores = 0
        groups[-1].append(family)
        tokens, scores = tokens + size, scores + more
    return groups


# -- a micro-batch ---------------------------------------------------------------------------


class _Line:
    """A micro-batch on its way: documents in, one after the other."""

    def __init__(self) -> None:
        self.num = 0  # tokens so far
        self.groups: list[DocumentGroup] = []
        self.ids: list[NDArray[Any]] = []
        self.positions: list[NDArray[np.int64]] = []
        self.trained_at: list[NDArray[np.int64]] = []
        self.targets: list[NDArray[Any]] = []

    def open(self, ids: NDArray[Any]) -> Span:
        """Add a shared prefix; returns where it lies."""
        span = Span(self.num, self.num + len(ids))
        self._put(ids, 0)
        self.groups.append(DocumentGroup(len(ids)))
        return span

    def add(self, parts: Iterable[Stretch], prefix: Span | None = None) -> None:
        """Add documents, sorted by length, each without the prefix that lies in the line."""
        prefix_T = np.arange(prefix.begin, prefix.end) if prefix else np.arange(0)
        prefix_length = len(prefix_T)
        for length, same in groupby(sorted(parts, key=len), key=len):
            num = 0
            for num, part in enumerate(same, start=1):  # noqa: B007 - how many there are
                own = np.arange(self.num, self.num + length - prefix_length)
                at_T = np.concatenate([prefix_T, own])
                learned = slice(None) if part.trained is None else part.trained
                self.trained_at.append(at_T[learned])
                self.targets.append(part.ids[1:][learned])
                self._put(part.ids[prefix_length:-1], prefix_length)
            if length > prefix_length:
                self.groups.append(DocumentGroup(length - prefix_length, num, prefix))

    def _put(self, ids: NDArray[Any], begin: int) -> None:
        self.ids.append(ids)
        self.positions.append(np.arange(begin, begin + len(ids)))
        self.num += len(ids)


def laid_out(group: Sequence[Family], stretches: Stretches) -> MicroBatch:
    """Rows as one line: first those by themselves, then each family with what it begins with."""
    line = _Line()
    line.add(part for one in group if not one.begins for n in one.rows for part in stretches[n])
    for family in group:
        if family.begins:
            parts = [stretches[n][0] for n in family.rows]
            line.add(parts, line.open(parts[0].ids[: family.begins]))
    numbers = [n for family in group for n in family.rows]
    return MicroBatch(
        rows_R=np.asarray(numbers, dtype=np.int64),
        ids_N=np.concatenate(line.ids).astype(np.int64),
        positions_N=np.concatenate(line.positions),
        trained_at_M=np.concatenate(line.trained_at),
        targets_M=np.concatenate(line.targets).astype(np.int64),
        documents=tuple(line.groups),
        num_tokens=sum(len(part) for n in numbers for part in stretches[n]),
    )
