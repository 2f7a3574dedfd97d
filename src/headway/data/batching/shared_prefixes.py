"""Shared prefixes: groups of rows that start with the same tokens, found by sorting."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_PREFIX = 32  # tokens; shorter prefixes are cheaper to recompute
GROUP_COST = 128  # tokens of work that the attention of one more group costs, roughly


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Rows whose common prefix is computed once.

    Attributes:
        rows: row numbers; a row that shares nothing is a group of one.
        prefix_length: input tokens that all rows start with; 0 for a group of one.
    """

    rows: tuple[int, ...]
    prefix_length: int


def group_by_prefix(inputs: Mapping[int, NDArray[Any]]) -> list[PrefixGroup]:
    """Partition rows into groups so that sharing prefixes saves the most tokens.

    In sorted order, rows with a common prefix are neighbors. A group is a run of neighbors, and
    its prefix is the shortest that two neighbors in it have in common. Dynamic programming finds
    the best runs for the first row, the first two rows, and so on.

    Args:
        inputs: (T,) input tokens of each row, by row number.

    Returns:
        Groups that hold each row once. They depend only on the rows, not on the mapping's order.
    """
    keys = {n: ids.astype(">u4").tobytes() for n, ids in inputs.items()}  # sort like the tokens
    numbers = sorted(keys, key=lambda n: (keys[n], n))
    common = [_common_prefix_length(inputs[a], inputs[b]) for a, b in pairwise(numbers)]
    groups: list[PrefixGroup] = []
    end = len(numbers)
    for begin in _best_runs(common) if numbers else ():
        shared = common[begin : end - 1]
        groups.append(PrefixGroup(tuple(numbers[begin:end]), min(shared, default=0)))
        end = begin
    return groups[::-1]


def _best_runs(common: list[int]) -> list[int]:
    """The first row of each run in the partition that saves the most, last run first.

    Args:
        common: length of the prefix that each row shares with the next one.
    """
    num, first = len(common) + 1, 0
    saved = np.zeros(num + 1, dtype=np.int64)  # best saving of the first n rows
    begin = np.arange(-1, num, dtype=np.int64)  # of the last run in that partition
    shortest = np.zeros(num, dtype=np.int64)  # prefix shared by all rows from each one on
    for end in range(2, num + 1):
        saved[end] = saved[end - 1]
        if common[end - 2] < MIN_PREFIX:
            first = end - 1
            continue
        shortest[end - 2] = common[end - 2]
        runs = shortest[first : end - 1]
        np.minimum(runs, common[end - 2], out=runs)
        gains = saved[first : end - 1] + np.arange(len(runs), 0, -1) * runs - GROUP_COST
        best = int(gains.argmax())
        if gains[best] > saved[end]:
            saved[end], begin[end] = gains[best], first + best
    begins: list[int] = []
    end = num
    while end > 0:
        end = int(begin[end])
        begins.append(end)
    return begins


def _common_prefix_length(one: NDArray[Any], other: NDArray[Any]) -> int:
    num = min(len(one), len(other))
    differ = one[:num] != other[:num]
    at = int(differ.argmax()) if num else 0
    return at if num and differ[at] else num
