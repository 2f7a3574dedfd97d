"""Rows that begin alike: who shares what with whom, found by sorting."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 32  # tokens that rows have in common; fewer are soon computed again
COST = 128  # tokens of work that a family's own attention costs, about


@dataclass(frozen=True, slots=True)
class Family:
    """Rows that run what they all begin with once.

    Attributes:
        rows: their numbers; one for a row by itself.
        begins: tokens that they begin with, of each row's inputs; 0 for a row by itself.
    """

    rows: tuple[int, ...]
    begins: int


def families(inputs: Mapping[int, NDArray[Any]]) -> list[Family]:
    """Part rows into families so that the most tokens are not computed again.

    In sorted order rows that begin alike stand together: a family is a run of neighbours, and what
    it begins with is the least that two neighbours in it have in common. The runs that save most
    are found for the first row, the first two, and so on.

    Args:
        inputs: (T,) input tokens of each row, by number.

    Returns:
        Each row in one family. Which one depends on the rows alone, not on their order here.
    """
    keys = {n: ids.astype(">u4").tobytes() for n, ids in inputs.items()}  # sort as their tokens do
    numbers = sorted(keys, key=lambda n: (keys[n], n))
    common = [_in_common(inputs[a], inputs[b]) for a, b in pairwise(numbers)]
    found: list[Family] = []
    end = len(numbers)
    for begin in _runs(common) if numbers else ():
        shared = common[begin : end - 1]
        found.append(Family(tuple(numbers[begin:end]), min(shared, default=0)))
        end = begin
    return found[::-1]


def _runs(common: list[int]) -> list[int]:
    """Where the runs begin that save the most, from the last one to the first.

    Args:
        common: what each row has in common with the next one.
    """
    num, since = len(common) + 1, 0
    saved = np.zeros(num + 1, dtype=np.int64)  # by the first so many rows
    begin = np.arange(-1, num, dtype=np.int64)  # of the run that ends with them
    least = np.zeros(num, dtype=np.int64)  # that the rows from each one on have in common
    for end in range(2, num + 1):
        saved[end] = saved[end - 1]
        if common[end - 2] < LEAST:
            since = end - 1
            continue
        least[end - 2] = common[end - 2]
        runs = least[since : end - 1]
        np.minimum(runs, common[end - 2], out=runs)
        gains = saved[since : end - 1] + np.arange(len(runs), 0, -1) * runs - COST
        best = int(gains.argmax())
        if gains[best] > saved[end]:
            saved[end], begin[end] = gains[best], since + best
    begins: list[int] = []
    end = num
    while end > 0:
        end = int(begin[end])
        begins.append(end)
    return begins


def _in_common(one: NDArray[Any], other: NDArray[Any]) -> int:
    """Tokens that both begin with."""
    num = min(len(one), len(other))
    differ = one[:num] != other[:num]
    at = int(differ.argmax()) if num else 0
    return at if num and differ[at] else num
