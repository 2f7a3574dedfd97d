"""Prefix groups: each row in one group, a common prefix, the largest possible saving."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headway.data.batching.shared_prefixes import (
    GROUP_COST,
    MIN_PREFIX,
    PrefixGroup,
    group_by_prefix,
)

Inputs = Mapping[int, NDArray[Any]]

# Few words that are long, so that rows often begin alike; 256 sorts otherwise as a number than as
# its lowest byte.
WORDS = st.tuples(st.sampled_from([1, 2, 256]), st.sampled_from([1, 31, 32, 33, 64, 65, 129]))
ROWS = st.lists(st.lists(WORDS, max_size=3), max_size=7)


def inputs_of(rows: list[list[tuple[int, int]]]) -> dict[int, NDArray[Any]]:
    """Rows of words, which are a token so many times; their numbers are not their places."""
    lines = [[token for token, times in row for _ in range(times)] for row in rows]
    return {7 * n + 3: np.array(line, dtype=np.uint16) for n, line in enumerate(lines)}


def in_common(inputs: Inputs, rows: tuple[int, ...]) -> int:
    """Tokens that all of some rows begin with, one by one."""
    lines = [inputs[n].tolist() for n in rows]
    num = 0
    while all(num < len(line) and line[num] == lines[0][num] for line in lines):
        num += 1
    return num


def gain(inputs: Inputs, rows: tuple[int, ...]) -> int:
    """Tokens saved by a group, less what it costs."""
    return (len(rows) - 1) * in_common(inputs, rows) - GROUP_COST if len(rows) > 1 else 0


def partitions(rows: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """All ways to part a line into runs."""
    if not rows:
        yield []
    for end in range(1, len(rows) + 1):
        for rest in partitions(rows[end:]):
            yield [rows[:end], *rest]


@given(ROWS)
def test_each_row_is_in_one_group_and_begins_as_it_does(rows: list[Any]) -> None:
    inputs = inputs_of(rows)
    found = group_by_prefix(inputs)
    assert sorted(n for group in found for n in group.rows) == sorted(inputs)
    for group in found:
        if len(group.rows) == 1:
            assert group.prefix_length == 0
        else:
            assert group.prefix_length == in_common(inputs, group.rows) >= MIN_PREFIX


@given(ROWS)
def test_no_other_runs_of_the_sorted_rows_save_more(rows: list[Any]) -> None:
    inputs = inputs_of(rows)
    line = tuple(sorted(inputs, key=lambda n: (inputs[n].tolist(), n)))
    found = group_by_prefix(inputs)
    assert tuple(n for group in found for n in group.rows) == line
    most = max(
        sum(gain(inputs, run) for run in runs)
        for runs in partitions(line)
        if all(in_common(inputs, pair) >= MIN_PREFIX for run in runs for pair in pairwise(run))
    )
    assert sum(gain(inputs, group.rows) for group in found) == most


@given(ROWS, st.randoms())
def test_the_order_of_the_rows_given_changes_nothing(rows: list[Any], random: Random) -> None:
    inputs = inputs_of(rows)
    shuffled = list(inputs)
    random.shuffle(shuffled)
    assert group_by_prefix({n: inputs[n] for n in shuffled}) == group_by_prefix(inputs)


# ---- by hand -----------------------------------------------------------------------------------


def with_common_prefix(num: int, common: int, *, own: int = 1) -> dict[int, NDArray[Any]]:
    """Rows that begin with `common` tokens and go on with others."""
    return {n: np.array([5] * common + [100 + n] * own, dtype=np.int64) for n in range(num)}


def alone(*rows: int) -> list[PrefixGroup]:
    return [PrefixGroup((n,), 0) for n in rows]


def test_no_rows_are_no_groups() -> None:
    assert group_by_prefix({}) == []


@pytest.mark.parametrize("tokens", [0, 1, 500])
def test_one_row_is_by_itself(tokens: int) -> None:
    assert group_by_prefix({4: np.arange(tokens)}) == alone(4)


def test_rows_without_tokens_are_by_themselves() -> None:
    assert group_by_prefix({n: np.arange(0) for n in range(3)}) == alone(0, 1, 2)


def test_identical_rows_begin_with_all_that_they_are() -> None:
    same = np.arange(200)
    assert group_by_prefix({9: same, 2: same, 5: same}) == [PrefixGroup((2, 5, 9), 200)]


def test_a_row_that_another_one_begins_with_is_run_with_it() -> None:
    assert group_by_prefix({0: np.arange(300), 1: np.arange(200)}) == [PrefixGroup((1, 0), 200)]


def test_too_little_in_common_is_computed_again() -> None:
    num = GROUP_COST // (MIN_PREFIX - 1) + 2  # so many that they would save more than it costs
    assert group_by_prefix(with_common_prefix(num, MIN_PREFIX - 1)) == alone(*range(num))
    assert group_by_prefix(with_common_prefix(num, MIN_PREFIX)) == [
        PrefixGroup(tuple(range(num)), MIN_PREFIX)
    ]


def test_what_saves_no_more_than_it_costs_is_computed_again() -> None:
    assert group_by_prefix(with_common_prefix(2, GROUP_COST)) == alone(0, 1)
    assert group_by_prefix(with_common_prefix(2, GROUP_COST + 1)) == [
        PrefixGroup((0, 1), GROUP_COST + 1)
    ]


def test_a_longer_beginning_of_some_wins_over_a_shorter_one_of_all() -> None:
    both = [1] * 40
    inputs = {
        n: np.array(both + ([2] * 400 if n < 3 else [3]) + [100 + n], dtype=np.int64)
        for n in range(4)
    }
    assert group_by_prefix(inputs) == [PrefixGroup((0, 1, 2), 440), *alone(3)]


def test_a_shorter_beginning_of_all_wins_over_a_longer_one_of_some() -> None:
    both = [1] * 400
    inputs = {
        n: np.array(both + ([2] * 40 if n < 3 else [3]) + [100 + n], dtype=np.int64)
        for n in range(4)
    }
    assert group_by_prefix(inputs) == [PrefixGroup((0, 1, 2, 3), 400)]
