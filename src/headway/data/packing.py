"""Examples -> leaves -> dense micro-batches.

N is tokens of a micro-batch, M the trained ones of these, R its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from headway.data.order import Numbers
from headway.data.rows import Rows, Stretch


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some rows as one line of tokens without padding, documents sorted by length.

    Attributes:
        rows_R: (R,) row numbers.
        ids_N: (N,) input tokens.
        positions_N: (N,) from 0 in each document.
        trained_at_M: (M,) where in the line a trained target is predicted.
        targets_M: (M,) these targets.
        documents: (tokens, how many) by length, in the line's order.
    """

    rows_R: Numbers
    ids_N: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    trained_at_M: NDArray[np.int64]
    targets_M: NDArray[np.int64]
    documents: tuple[tuple[int, int], ...]


def num_leaves(tokens: int, rows: int) -> int:
    """Leaves of a step: the largest power of two up to 8, a row each and 256 tokens each."""
    most = max(1, min(8, rows, tokens // 256))
    return 1 << (most.bit_length() - 1)


def pack(
    rows: Rows, numbers: Numbers, leaves: int, micro_batch_tokens: int
) -> tuple[tuple[MicroBatch, ...], ...]:
    """A step's rows as leaves of micro-batches; which goes where depends on nothing else.

    Args:
        rows: where their tokens are.
        numbers: the step's row numbers.
        leaves: at most so many; a small last step has fewer, so that none is empty.
        micro_batch_tokens: at most so many tokens run at once; a longer row runs by itself.
    """
    stretches = {int(n): rows.stretches(int(n)) for n in numbers}
    sizes = {n: sum(map(len, parts)) for n, parts in stretches.items()}
    # Longest first, each to the leaf with least so far: leaves come out even.
    longest_first = sorted(sizes, key=lambda n: (-sizes[n], n))
    num = min(leaves, 1 << (len(longest_first).bit_length() - 1))
    filled: list[list[int]] = [[] for _ in range(num)]
    totals = [0] * num
    for n in longest_first:
        leaf = totals.index(min(totals))
        filled[leaf].append(n)
        totals[leaf] += sizes[n]
    return tuple(
        tuple(
            micro_batch(group, [part for n in group for part in stretches[n]])
            for group in _within(leaf, sizes, micro_batch_tokens)
        )
        for leaf in filled
    )


def micro_batch(numbers: Sequence[int], stretches: list[Stretch]) -> MicroBatch:
    """Lay stretches out as one line."""
    parts = sorted(stretches, key=len)
    ids = np.concatenate([part.ids[:-1] for part in parts])
    targets = np.concatenate([part.ids[1:] for part in parts])
    positions = np.concatenate([np.arange(len(part)) for part in parts])
    learned = [np.ones(len(p), dtype=bool) if p.trained is None else p.trained for p in parts]
    trained_at = np.flatnonzero(np.concatenate(learned))
    return MicroBatch(
        rows_R=np.asarray(numbers, dtype=np.int64),
        ids_N=ids.astype(np.int64),
        positions_N=positions,
        trained_at_M=trained_at,
        targets_M=targets[trained_at].astype(np.int64),
        documents=tuple((length, len(list(same))) for length, same in groupby(parts, key=len)),
    )


def _within(leaf: list[int], sizes: dict[int, int], budget: int) -> list[list[int]]:
    groups: list[list[int]] = []
    total = 0
    for n in leaf:
        if not groups or total + sizes[n] > budget:
            groups.append([])
            total = 0
        groups[-1].append(n)
        total += sizes[n]
    return groups
