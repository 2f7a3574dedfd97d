"""Packing: the rows of a step grouped into dense micro-batches.

N counts the tokens of a micro-batch, M its trained targets, R its rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.base.documents import DocumentGroup, RowSpan
from headway.data.batching.rows import Rows, Segment
from headway.data.batching.shared_prefixes import PrefixGroup, group_by_prefix
from headway.data.order import Numbers

Segments = Mapping[int, Sequence[Segment]]  # of each row, by row number

_MAX_SCORES = 1 << 22  # attention scores over shared prefixes, per head and micro-batch


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some rows as one line of tokens without padding, documents sorted by length.

    Rows with a common prefix may share it: it appears once in the line, as a document of its own,
    and each row's document continues from there. So one position may predict a target for each of
    several rows.

    Attributes:
        rows_R: (R,) row numbers.
        ids_N: (N,) input tokens.
        positions_N: (N,) position in the document; it continues after a shared prefix.
        trained_at_M: (M,) index in the line that predicts each trained target.
        targets_M: (M,) trained targets.
        documents: groups in the line's order, a shared prefix before its documents.
        num_tokens: input tokens counted separately for each row; more than N if rows share.
    """

    rows_R: Numbers
    ids_N: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    trained_at_M: NDArray[np.int64]
    targets_M: NDArray[np.int64]
    documents: tuple[DocumentGroup, ...]
    num_tokens: int


def num_leaves(tokens: int, rows: int, *, leaf_tokens: int = 2048, workers: int = 1) -> int:
    """Leaves of a step: the largest power of two up to 8 with a row and `leaf_tokens` for each.

    Each leaf costs one pass over all gradients, which must be small compared to its work. With
    several workers there is one for each as far as there are rows, however few its tokens.
    """
    most = max(1, min(8, rows, tokens // leaf_tokens))
    for_workers = 1 << (workers - 1).bit_length()
    return _power_of_two(max(most, min(for_workers, rows)))


def pack(
    rows: Rows, numbers: Numbers, leaves: int, micro_batch_tokens: int, *, share: bool = False
) -> tuple[tuple[MicroBatch, ...], ...]:
    """Pack a step's rows into leaves of micro-batches, as a pure function of the arguments.

    Args:
        rows: their tokens.
        numbers: the step's row numbers.
        leaves: maximum number; a small last step has fewer, so that none is empty.
        micro_batch_tokens: maximum per micro-batch; a longer row runs alone.
        share: compute a common prefix once per micro-batch.
    """
    segments = {int(n): rows.segments(int(n)) for n in numbers}
    return tuple(
        tuple(lay_out(groups, segments) for groups in leaf)
        for leaf in arrange(segments, leaves, micro_batch_tokens, share=share)
    )


def arrange(
    segments: Segments, leaves: int, micro_batch_tokens: int, *, share: bool = False
) -> list[list[list[PrefixGroup]]]:
    """Assign rows to micro-batches and micro-batches to leaves; arguments as for `pack`."""
    lengths = {n: sum(map(len, parts)) for n, parts in segments.items()}
    groups = list(_split_groups(segments, lengths, micro_batch_tokens, share=share))
    sizes = {group: num_computed_tokens(group, lengths) for group in groups}
    # Longest first, each to the leaf with the fewest tokens so far: this evens out the leaves.
    longest_first = sorted(groups, key=lambda group: (-sizes[group], group.rows))
    num = min(leaves, _power_of_two(len(groups)))
    filled: list[list[PrefixGroup]] = [[] for _ in range(num)]
    totals = [0] * num
    for group in longest_first:
        leaf = totals.index(min(totals))
        filled[leaf].append(group)
        totals[leaf] += sizes[group]
    return [_split_leaf(leaf, lengths, micro_batch_tokens) for leaf in filled]


def largest_shared_prefix(rows: Rows, numbers: Numbers) -> PrefixGroup | None:
    """The group of rows with the longest shared prefix, or None if no rows share one."""
    segments = {int(n): rows.segments(int(n)) for n in numbers}
    groups = group_by_prefix({n: s[0].ids[:-1] for n, s in segments.items() if len(s) == 1})
    largest = max(groups, key=lambda group: group.prefix_length, default=None)
    return largest if largest and largest.prefix_length else None


def num_computed_tokens(group: PrefixGroup, lengths: Mapping[int, int]) -> int:
    """Input tokens of a group, with the shared prefix counted once."""
    return sum(lengths[n] for n in group.rows) - (len(group.rows) - 1) * group.prefix_length


def _power_of_two(most: int) -> int:
    return 1 << (most.bit_length() - 1)


def _split_groups(
    segments: Segments, lengths: Mapping[int, int], budget: int, *, share: bool
) -> Iterator[PrefixGroup]:
    """Groups that each fit in a micro-batch; rows that cannot share are groups of one."""
    # A row of several segments may start in the middle of a document.
    whole = {n: s[0].ids[:-1] for n, s in segments.items() if share and len(s) == 1}
    yield from (PrefixGroup((n,), 0) for n in segments if n not in whole)
    for group in group_by_prefix(whole):
        yield from _split_group(group, lengths, budget)


def _split_group(
    group: PrefixGroup, lengths: Mapping[int, int], budget: int
) -> Iterator[PrefixGroup]:
    """Split a group to fit micro-batches, keeping rows of similar length together."""
    part: list[int] = []
    tokens, scores = group.prefix_length, 0
    for n in sorted(group.rows, key=lambda n: (lengths[n], n)):
        own = lengths[n] - group.prefix_length
        if part and (tokens + own > budget or scores + own * lengths[n] > _MAX_SCORES):
            yield _prefix_group(part, group.prefix_length)
            part, tokens, scores = [], group.prefix_length, 0
        part.append(n)
        tokens, scores = tokens + own, scores + own * lengths[n]
    yield _prefix_group(part, group.prefix_length)


def _prefix_group(rows: Sequence[int], prefix_length: int) -> PrefixGroup:
    return PrefixGroup(tuple(rows), prefix_length if len(rows) > 1 else 0)


def _num_scores(group: PrefixGroup, lengths: Mapping[int, int]) -> int:
    """Attention scores per head: tokens after the prefix times tokens they attend to."""
    if not group.prefix_length:
        return 0
    return sum((lengths[n] - group.prefix_length) * lengths[n] for n in group.rows)


def _split_leaf(
    leaf: Iterable[PrefixGroup], lengths: Mapping[int, int], budget: int
) -> list[list[PrefixGroup]]:
    """A leaf's groups, in order, as micro-batches."""
    micro_batches: list[list[PrefixGroup]] = []
    tokens = scores = 0
    for group in leaf:
        size, more = num_computed_tokens(group, lengths), _num_scores(group, lengths)
        if not micro_batches or tokens + size > budget or scores + more > _MAX_SCORES:
            micro_batches.append([])
            tokens = scores = 0
        micro_batches[-1].append(group)
        tokens, scores = tokens + size, scores + more
    return micro_batches


# -- a micro-batch ---------------------------------------------------------------------------


class _Line:
    """Builds a micro-batch by appending documents."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.groups: list[DocumentGroup] = []
        self.ids: list[NDArray[Any]] = []
        self.positions: list[NDArray[np.int64]] = []
        self.trained_at: list[NDArray[np.int64]] = []
        self.targets: list[NDArray[Any]] = []

    def add_prefix(self, ids: NDArray[Any]) -> RowSpan:
        """Append a shared prefix and return where it lies."""
        span = RowSpan(self.num_tokens, self.num_tokens + len(ids))
        self._append(ids, 0)
        self.groups.append(DocumentGroup(len(ids)))
        return span

    def add_documents(self, segments: Iterable[Segment], prefix: RowSpan | None = None) -> None:
        """Append documents, sorted by length, without the prefix that is already in the line."""
        prefix_T = np.arange(prefix.begin, prefix.end) if prefix else np.arange(0)
        prefix_length = len(prefix_T)
        for length, same in groupby(sorted(segments, key=len), key=len):
            count = 0
            for segment in same:
                own = np.arange(self.num_tokens, self.num_tokens + length - prefix_length)
                at_T = np.concatenate([prefix_T, own])
                trained = slice(None) if segment.trained is None else segment.trained
                self.trained_at.append(at_T[trained])
                self.targets.append(segment.ids[1:][trained])
                self._append(segment.ids[prefix_length:-1], prefix_length)
                count += 1
            if length > prefix_length:
                self.groups.append(DocumentGroup(length - prefix_length, count, prefix))

    def _append(self, ids: NDArray[Any], first_position: int) -> None:
        self.ids.append(ids)
        self.positions.append(np.arange(first_position, first_position + len(ids)))
        self.num_tokens += len(ids)


def lay_out(groups: Sequence[PrefixGroup], segments: Segments) -> MicroBatch:
    """Rows as one line: rows without a shared prefix first, then each prefix with its rows."""
    line = _Line()
    line.add_documents(
        segment
        for group in groups
        if not group.prefix_length
        for n in group.rows
        for segment in segments[n]
    )
    for group in groups:
        if group.prefix_length:
            own = [segments[n][0] for n in group.rows]
            line.add_documents(own, line.add_prefix(own[0].ids[: group.prefix_length]))
    numbers = [n for group in groups for n in group.rows]
    return MicroBatch(
        rows_R=np.asarray(numbers, dtype=np.int64),
        ids_N=np.concatenate(line.ids).astype(np.int64),
        positions_N=np.concatenate(line.positions),
        trained_at_M=np.concatenate(line.trained_at),
        targets_M=np.concatenate(line.targets).astype(np.int64),
        documents=tuple(line.groups),
        num_tokens=sum(len(segment) for n in numbers for segment in segments[n]),
    )
