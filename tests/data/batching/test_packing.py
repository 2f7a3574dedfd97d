"""Packing: every row once, even leaves, no padding, independent of the order of row numbers."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import chat_store, text_store

from headway.base.documents import DocumentGroup, RowSpan, document_lengths
from headway.data.batching import packing
from headway.data.batching.packing import MicroBatch, arrange, num_computed_tokens, num_leaves, pack
from headway.data.batching.rows import Rows, Segment, rows_of

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


# ---- arrangement -------------------------------------------------------------------------------


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
def test_the_order_of_the_row_numbers_changes_nothing(
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


# ---- layout ------------------------------------------------------------------------------------


def check_layout(rows: Rows, micro: MicroBatch) -> None:
    """No padding, documents by length, and each token's target is the next one of its document."""
    store = rows.store
    lengths = document_lengths(micro.documents)
    assert lengths == sorted(lengths)
    assert [group.length for group in micro.documents] == sorted(set(lengths))
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
        assert micro.documents == (DocumentGroup(2), DocumentGroup(4))
        assert micro.positions_N.tolist() == [0, 1, 0, 1, 2, 3]
        assert micro.trained_at_M.tolist() == [1, 2, 3, 5]
        assert micro.ids_N.dtype == micro.targets_M.dtype == np.int64


# ---- rows that share a prefix ------------------------------------------------------------------


class Made(Rows):
    """Rows held in memory."""

    def __init__(self, rows: list[list[Segment]]) -> None:
        self.rows = rows

    def segments(self, row: int) -> list[Segment]:
        return self.rows[row]

    @property
    def numbers(self) -> np.ndarray[Any, Any]:
        return np.arange(len(self.rows))

    @property
    def lengths(self) -> dict[int, int]:
        return {n: sum(map(len, row)) for n, row in enumerate(self.rows)}


PROMPT = np.random.default_rng(7).integers(256, size=400)


def begun(prompt: int, own: int, seed: int) -> Segment:
    """A part of the prompt, tokens of its own, and which of them are trained."""
    draw = np.random.default_rng(seed)
    ids = np.concatenate([PROMPT[:prompt], draw.integers(2, size=own)])
    return Segment(ids, draw.random(len(ids) - 1) < 0.5 if seed else None)


BEGUN = st.builds(
    begun, st.sampled_from([0, 40, 131, 132, 300]), st.integers(2, 40), st.integers(0, 3)
)
BEGINNINGS = st.lists(
    st.one_of(*[BEGUN.map(lambda one: [one])] * 4, st.lists(BEGUN, min_size=2, max_size=2)),
    min_size=1,
    max_size=16,
).map(Made)
BUDGETS = st.sampled_from([1, 150, 200, 350, 700, 5000])


def contexts(micro: MicroBatch) -> list[tuple[int, ...]]:
    """The tokens that each token of the line attends to, itself last."""
    found: list[tuple[int, ...]] = []
    for group in micro.documents:
        prefix = group.prefix or RowSpan(0, 0)
        assert 0 <= prefix.begin <= prefix.end <= len(found)
        before = micro.ids_N[prefix.slice].tolist()
        for _ in range(group.count):
            first = len(found)
            own = micro.ids_N[first : first + group.length].tolist()
            found += [tuple(before + own[: t + 1]) for t in range(group.length)]
    assert len(found) == len(micro.ids_N)
    return found


@given(BEGINNINGS, LEAVES, BUDGETS)
def test_each_token_attends_to_its_own_documents_prefix(
    rows: Made, leaves: int, budget: int
) -> None:
    for micro in every(pack(rows, rows.numbers, leaves, budget, share=True)):
        seen, wanted = contexts(micro), Counter[tuple[tuple[int, ...], int]]()
        assert micro.positions_N.tolist() == [len(context) - 1 for context in seen]
        for part in chain.from_iterable(rows.rows[n] for n in micro.rows_R):
            ids = part.ids.tolist()
            learned = np.arange(len(part)) if part.trained is None else np.flatnonzero(part.trained)
            wanted.update((tuple(ids[: t + 1]), ids[t + 1]) for t in learned)
            assert tuple(ids[:-1]) in seen
        trained_at, targets = micro.trained_at_M.tolist(), micro.targets_M.tolist()
        assert Counter((seen[at], to) for at, to in zip(trained_at, targets, strict=True)) == wanted


@given(BEGINNINGS, LEAVES, BUDGETS)
def test_sharing_takes_each_row_once_and_no_more_tokens(
    rows: Made, leaves: int, budget: int
) -> None:
    packed = pack(rows, rows.numbers, leaves, budget, share=True)
    found = np.concatenate([micro.rows_R for micro in every(packed)])
    assert sorted(found.tolist()) == rows.numbers.tolist()
    parts = arrange({int(n): rows.segments(n) for n in rows.numbers}, leaves, budget, share=True)
    assert [[len(micro.ids_N) for micro in leaf] for leaf in packed] == [
        [sum(num_computed_tokens(group, rows.lengths) for group in micro) for micro in leaf]
        for leaf in parts
    ]
    for micro in every(packed):
        assert micro.num_tokens == sum(rows.lengths[n] for n in micro.rows_R)
        assert len(micro.ids_N) <= micro.num_tokens


@given(BEGINNINGS, LEAVES, BUDGETS)
def test_sharing_keeps_the_budget(rows: Made, leaves: int, budget: int) -> None:
    packed = pack(rows, rows.numbers, leaves, budget, share=True)
    assert len(packed) <= leaves
    assert len(packed) & (len(packed) - 1) == 0
    assert all(packed)
    for micro in every(packed):
        assert len(micro.ids_N) <= budget or len(micro.rows_R) == 1


@given(BEGINNINGS, BUDGETS, st.sampled_from([1 << 10, 1 << 13, 1 << 15]))
def test_sharing_keeps_the_limit_on_scores(rows: Made, budget: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_MAX_SCORES", most)
        packed = pack(rows, rows.numbers, 1, budget, share=True)
    for micro in every(packed):
        scores = [
            group.num_tokens * (group.length + group.prefix.length)
            for group in micro.documents
            if group.prefix
        ]
        assert sum(scores) <= most


@given(BEGINNINGS, LEAVES, BUDGETS, st.randoms())
def test_the_order_of_the_row_numbers_does_not_change_sharing(
    rows: Made, leaves: int, budget: int, random: Random
) -> None:
    shuffled = rows.numbers.tolist()
    random.shuffle(shuffled)
    first = pack(rows, rows.numbers, leaves, budget, share=True)
    second = pack(rows, np.array(shuffled), leaves, budget, share=True)
    assert [len(leaf) for leaf in first] == [len(leaf) for leaf in second]
    for one, other in zip(every(first), every(second), strict=True):
        assert one.documents == other.documents
        for name in ("rows_R", "ids_N", "positions_N", "trained_at_M", "targets_M"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()


def of_lengths(prompt: int, *owns: int) -> list[list[Segment]]:
    """Rows of a part of the prompt and some tokens of their own, all trained."""
    return [
        [Segment(np.concatenate([PROMPT[:prompt], np.full(own + 1, 300 + n)]), None)]
        for n, own in enumerate(owns)
    ]


def test_a_shared_prefix_by_hand() -> None:
    rows = Made(of_lengths(200, 2, 0, 1, 2))
    ((micro,),) = pack(rows, rows.numbers, 1, 1000, share=True)
    assert micro.documents == (
        DocumentGroup(200),
        DocumentGroup(1, 1, RowSpan(0, 200)),
        DocumentGroup(2, 2, RowSpan(0, 200)),
    )
    assert micro.ids_N.tolist() == [*PROMPT[:200], 302, 300, 300, 303, 303]
    assert micro.positions_N.tolist() == [*range(200), 200, 200, 201, 200, 201]
    prompt = list(range(200))
    assert micro.trained_at_M.tolist() == [
        *prompt, *prompt, 200, *prompt, 201, 202, *prompt, 203, 204,
    ]  # fmt: skip
    assert micro.num_tokens == 805
    assert micro.ids_N.dtype == micro.targets_M.dtype == np.int64


def test_a_group_too_large_for_a_micro_batch_repeats_its_prefix_in_the_next() -> None:
    rows = Made(of_lengths(200, *[10] * 7))
    ((*micros,),) = pack(rows, rows.numbers, 1, 230, share=True)
    assert [len(micro.ids_N) for micro in micros] == [230, 230, 210]
    assert micros[-1].documents == (DocumentGroup(210),)


def test_groups_with_too_many_scores_run_in_separate_micro_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = of_lengths(200, 10, 10)
    other = [[Segment(part.ids[50:], None)] for (part,) in one]
    monkeypatch.setattr(packing, "_MAX_SCORES", 2 * 10 * 210)
    rows = Made(one + other)
    ((*micros,),) = pack(rows, rows.numbers, 1, 1000, share=True)
    assert [micro.rows_R.tolist() for micro in micros] == [[0, 1], [2, 3]]


def test_leaves_are_even_in_computed_tokens() -> None:
    rows = Made(
        of_lengths(200, *[10] * 8) + [[Segment(np.arange(k, 151 + k), None)] for k in range(1, 5)]
    )
    sizes = [tokens(leaf) for leaf in pack(rows, rows.numbers, 2, 1000, share=True)]
    assert sorted(sizes) == [430, 450]


def test_rows_of_several_documents_share_nothing() -> None:
    one, other = of_lengths(300, 5, 5)
    rows = Made([[*one, *other]] * 4)
    packed = every(pack(rows, rows.numbers, 1, 5000, share=True))
    assert sum(len(micro.ids_N) for micro in packed) == 4 * 2 * 305


def test_nothing_is_shared_by_default() -> None:
    rows = Made(of_lengths(300, 5, 5))
    ((micro,),) = pack(rows, rows.numbers, 1, 5000)
    assert micro.documents == (DocumentGroup(305, 2),)
