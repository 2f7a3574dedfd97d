"""Packing: every row once, leaves even, nothing padded, the same whatever the order given."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import chat_store, text_store

from headway.data.packing import MicroBatch, num_leaves, pack
from headway.data.rows import Rows, rows_of

Packed = tuple[tuple[MicroBatch, ...], ...]
CHATS = st.lists(
    st.builds(lambda a, b, c: "." * a + "x" * b + "." * c, *[st.integers(1, 9)] * 3),
    min_size=1,
    max_size=20,
)
DOCUMENTS = st.lists(st.integers(2, 40), min_size=1, max_size=12)
LEAVES = st.sampled_from([1, 2, 4, 8])


@contextmanager
def conversations(*flags: str, max_length: int = 64) -> Iterator[Rows]:
    with tempfile.TemporaryDirectory() as folder:
        yield rows_of(chat_store(Path(folder), *flags), max_length)


@contextmanager
def texts(*lengths: int, max_length: int = 8) -> Iterator[Rows]:
    with tempfile.TemporaryDirectory() as folder:
        yield rows_of(text_store(Path(folder), *lengths), max_length)


def every(packed: Packed) -> list[MicroBatch]:
    return list(chain.from_iterable(packed))


def tokens(leaf: tuple[MicroBatch, ...]) -> int:
    return sum(len(micro.ids_N) for micro in leaf)


# ---- what goes where ---------------------------------------------------------------------------


@given(CHATS, LEAVES, st.integers(1, 60))
def test_every_row_is_in_one_micro_batch(flags: list[str], leaves: int, budget: int) -> None:
    with conversations(*flags) as rows:
        packed = pack(rows, np.arange(rows.num_rows), leaves, budget)
        found = np.concatenate([micro.rows_R for micro in every(packed)])
        assert sorted(found.tolist()) == list(range(rows.num_rows))
        assert sum(tokens(leaf) for leaf in packed) == rows.lengths().sum()


@given(CHATS, LEAVES, st.integers(1, 60))
def test_leaves_are_a_power_of_two_and_none_is_empty(
    flags: list[str], leaves: int, budget: int
) -> None:
    with conversations(*flags) as rows:
        packed = pack(rows, np.arange(rows.num_rows), leaves, budget)
        assert len(packed) <= leaves
        assert len(packed) & (len(packed) - 1) == 0
        assert len(packed) == leaves or rows.num_rows < 2 * len(packed)
        assert all(leaf and tokens(leaf) for leaf in packed)


@given(CHATS, LEAVES, st.integers(1, 60))
def test_a_micro_batch_keeps_the_budget_unless_one_row_is_longer(
    flags: list[str], leaves: int, budget: int
) -> None:
    with conversations(*flags) as rows:
        for micro in every(pack(rows, np.arange(rows.num_rows), leaves, budget)):
            assert len(micro.ids_N) <= budget or len(micro.rows_R) == 1


@given(CHATS, LEAVES)
def test_leaves_differ_by_less_than_the_longest_row(flags: list[str], leaves: int) -> None:
    with conversations(*flags) as rows:
        sizes = [tokens(leaf) for leaf in pack(rows, np.arange(rows.num_rows), leaves, 1000)]
        assert max(sizes) - min(sizes) <= rows.lengths().max()


@given(CHATS, LEAVES, st.integers(1, 60), st.randoms())
def test_the_order_of_the_numbers_given_changes_nothing(
    flags: list[str], leaves: int, budget: int, random: Random
) -> None:
    with conversations(*flags) as rows:
        numbers = list(range(rows.num_rows))
        shuffled = list(numbers)
        random.shuffle(shuffled)
        first = every(pack(rows, np.array(numbers), leaves, budget))
        second = every(pack(rows, np.array(shuffled), leaves, budget))
        assert [m.rows_R.tolist() for m in first] == [m.rows_R.tolist() for m in second]
        assert [m.ids_N.tolist() for m in first] == [m.ids_N.tolist() for m in second]


@pytest.mark.parametrize(
    ("tokens", "rows", "leaves"),
    [
        (0, 1, 1),
        (1536, 12, 1),  # incident A: 12 rows of 128
        (4095, 8, 1),
        (4096, 8, 2),
        (8191, 8, 2),
        (8192, 8, 4),
        (16384, 8, 8),
        (10**6, 64, 8),
        (10**6, 3, 2),
        (10**6, 1, 1),
    ],
)
def test_leaves_of_a_step(tokens: int, rows: int, leaves: int) -> None:
    assert num_leaves(tokens, rows) == leaves


# ---- how it is laid out ------------------------------------------------------------------------


def check_layout(rows: Rows, micro: MicroBatch) -> None:
    """No padding, documents by length, and each token's target is the next one of its document."""
    store = rows.store
    lengths = [length for length, num, _ in micro.documents for _ in range(num)]
    assert lengths == sorted(lengths)
    assert [length for length, *_ in micro.documents] == sorted(set(lengths))
    assert len(micro.ids_N) == len(micro.positions_N) == sum(lengths)
    assert micro.positions_N.tolist() == list(chain(*(range(n) for n in lengths)))

    pieces = sorted((p for n in micro.rows_R for p in rows.pieces(int(n))), key=len)
    line = [at for piece in pieces for at in range(piece.begin, piece.end)]
    assert micro.ids_N.tolist() == store.ids[line].tolist()
    trained = [at for at, i in enumerate(line) if store.trained is None or store.trained[i + 1]]
    assert micro.trained_at_M.tolist() == trained
    assert micro.targets_M.tolist() == [int(store.ids[line[at] + 1]) for at in trained]


@given(CHATS, LEAVES, st.integers(1, 60), st.integers(2, 16))
def test_conversations_lie_side_by_side_without_padding(
    flags: list[str], leaves: int, budget: int, max_length: int
) -> None:
    with conversations(*flags, max_length=max_length) as rows:
        if rows.num_rows:
            for micro in every(pack(rows, np.arange(rows.num_rows), leaves, budget)):
                check_layout(rows, micro)


@given(DOCUMENTS, LEAVES, st.integers(1, 60), st.integers(2, 16))
def test_text_lies_side_by_side_without_padding(
    lengths: list[int], leaves: int, budget: int, max_length: int
) -> None:
    with texts(*lengths, max_length=max_length) as rows:
        for micro in every(pack(rows, np.arange(rows.num_rows), leaves, budget)):
            check_layout(rows, micro)


def test_a_micro_batch_by_hand() -> None:
    with conversations(".xx.x", "..x") as rows:
        ((micro,),) = pack(rows, np.arange(2), 1, 100)
        assert micro.documents == ((2, 1, (0, 0)), (4, 1, (0, 0)))
        assert micro.positions_N.tolist() == [0, 1, 0, 1, 2, 3]
        assert micro.trained_at_M.tolist() == [1, 2, 3, 5]
        assert micro.ids_N.dtype == micro.targets_M.dtype == np.int64
