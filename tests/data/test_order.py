"""Row order: every row once per epoch, a new order each epoch, any step by arithmetic."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data import order as module
from headway.data.order import StoreOrder, WindowOrder, mix_key, permute, row_hash, row_identities

ORDERS = st.builds(
    lambda full, short, held, batch, seed: StoreOrder(
        seed, full, short, min(held, full - 1), batch
    ),
    st.integers(1, 60),
    st.booleans(),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 2**64),
)


def steps(order: StoreOrder, first: int, last: int) -> Iterator[tuple[int, list[int]]]:
    for step in range(first, last + 1):
        epoch, rows = order.rows(step)
        yield epoch, rows.tolist()


def epoch_of(order: StoreOrder, number: int) -> list[int]:
    """All rows of an epoch, from 0, in their order."""
    per_epoch = order.steps_per_epoch
    return [
        row
        for _, rows in steps(order, number * per_epoch + 1, (number + 1) * per_epoch)
        for row in rows
    ]


# ---- the permutation ---------------------------------------------------------------------------


@given(st.integers(1, 2000), st.integers(0, 2**64 - 1))
def test_a_permutation_holds_every_index_once(size: int, word: int) -> None:
    assert sorted(permute(np.arange(size), size, word).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 65_536, 100_003])
def test_a_permutation_holds_every_index_once_near_powers_of_two(size: int) -> None:
    found = permute(np.arange(size), size, mix_key(42, 0))
    assert np.array_equal(np.sort(found), np.arange(size))


@given(st.integers(1, 500), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_part_of_a_permutation_is_the_same_part(size: int, places: list[int]) -> None:
    """A step computes only its own rows; they match those of the whole permutation."""
    indices = np.array([place % size for place in places])
    whole = permute(np.arange(size), size, 7)
    assert np.array_equal(permute(indices, size, 7), whole[indices])


def test_a_permutation_looks_shuffled() -> None:
    """Neighbors are separated, and indices keep their place no more often than by chance."""
    found = permute(np.arange(10_000), 10_000, mix_key(42, 0))
    assert np.mean(np.abs(np.diff(found)) == 1) < 0.002
    assert np.sum(found == np.arange(10_000)) < 10
    correlation = np.corrcoef(found, np.arange(10_000))[0, 1]
    assert abs(correlation) < 0.04


# ---- epochs and steps --------------------------------------------------------------------------


@given(ORDERS)
def test_every_epoch_takes_every_row_once_and_no_held_out_row(order: StoreOrder) -> None:
    held_out = set(order.held_out().tolist())
    assert len(held_out) == order.num_held_out
    wanted = sorted(set(range(order.num_full + order.has_short)) - held_out)
    for epoch in range(2):
        assert sorted(epoch_of(order, epoch)) == wanted
    assert order.rows_per_epoch == len(wanted)


@given(ORDERS)
def test_steps_never_cross_epochs_and_only_the_last_differs_in_size(order: StoreOrder) -> None:
    sizes: dict[int, list[int]] = {0: [], 1: []}
    for epoch, rows in steps(order, 1, 2 * order.steps_per_epoch):
        sizes[epoch].append(len(rows))
    for each in sizes.values():
        assert len(each) == order.steps_per_epoch
        assert all(size == order.batch_size for size in each[:-1])
        assert 1 <= each[-1] <= order.batch_size + order.has_short


@given(ORDERS)
def test_the_short_row_is_in_the_last_batch_of_each_epoch(order: StoreOrder) -> None:
    per_epoch = order.steps_per_epoch
    for number, (_, rows) in enumerate(steps(order, 1, 2 * per_epoch), 1):
        last = number % per_epoch == 0
        assert (order.num_full in rows) == (order.has_short and last)


def test_d16_every_epoch_has_a_different_order() -> None:
    order = StoreOrder(seed=42, num_full=1000, has_short=False, num_held_out=50, batch_size=8)
    epochs = [tuple(epoch_of(order, number)) for number in range(5)]
    assert len({one[:64] for one in epochs}) == 5


def test_d16_a_key_that_ignores_the_epoch_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    order = StoreOrder(seed=42, num_full=100, has_short=False, num_held_out=0, batch_size=8)
    monkeypatch.setattr(module, "mix_key", lambda seed, epoch: mix_key(seed, 0))
    assert epoch_of(order, 0) == epoch_of(order, 1)  # the mutant that the test above detects


def test_another_seed_gives_another_order_and_other_held_out_rows() -> None:
    order = StoreOrder(seed=42, num_full=100, has_short=True, num_held_out=10, batch_size=8)
    other = replace(order, seed=43)
    assert epoch_of(order, 0) != epoch_of(other, 0)
    assert set(order.held_out()) != set(other.held_out())


def test_a_batch_larger_than_the_data_is_one_step() -> None:
    order = StoreOrder(seed=1, num_full=3, has_short=True, num_held_out=0, batch_size=12)
    assert order.steps_per_epoch == 1
    assert sorted(order.rows(1)[1]) == [0, 1, 2, 3]
    assert order.rows(2)[0] == 1


# ---- held-out rows that have no twin ------------------------------------------------------------


@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=40),
    st.integers(0, 2**64),
    st.integers(1, 6),
    st.integers(1, 7),
)
def test_no_held_out_row_is_trained_under_another_number(
    contents: list[int], seed: int, num_held_out: int, batch: int
) -> None:
    """Rows by their content: one that occurs twice is trained, both times."""
    allowed = np.array([contents.count(one) == 1 for one in contents])
    num_held_out = min(num_held_out, int(allowed.sum()), len(contents) - 1)
    order = StoreOrder(seed, len(contents), True, num_held_out, batch).holding_out_only(allowed)
    held_out = order.held_out().tolist()
    assert len(held_out) == num_held_out
    for number in (0, 1):
        trained = epoch_of(order, number)
        assert sorted([*trained, *held_out]) == list(range(len(contents) + 1))
        assert {contents[row] for row in held_out}.isdisjoint(
            contents[row] for row in trained if row < len(contents)
        )
    assert order.row_sum(2 * order.steps_per_epoch) == sum(
        row_hash(np.array(epoch_of(order, number)), number) for number in (0, 1)
    ) % (1 << 64)


def test_where_no_row_has_a_twin_the_held_out_rows_are_the_first_of_the_draw() -> None:
    order = StoreOrder(seed=42, num_full=100, has_short=True, num_held_out=10, batch_size=8)
    assert order.holding_out_only(np.ones(100, bool)) == order


# ---- golden values: runs on disk depend on every bit ---------------------------------------------


def test_the_permutation_and_its_key_never_change() -> None:
    assert mix_key(42, 0) == 13063601391977507079
    assert mix_key(0, 1 << 41) == 11320385839476070171
    expected = [1, 4, 11, 12, 5, 0, 9, 10, 7, 6, 2, 8, 3]
    assert permute(np.arange(13), 13, mix_key(42, 3)).tolist() == expected


def test_the_row_hash_never_changes() -> None:
    assert row_hash(np.array([0, 1, 2, 10**9]), 1) == 12235038534203178619


def test_the_order_of_a_store_never_changes() -> None:
    order = StoreOrder(seed=42, num_full=23, has_short=True, num_held_out=4, batch_size=5)
    assert [rows for _, rows in steps(order, 1, 5)] == [
        [10, 8, 4, 14, 19],
        [18, 5, 21, 12, 17],
        [15, 16, 9, 22, 2],
        [1, 20, 13, 7, 23],
        [12, 5, 9, 7, 22],
    ]
    assert order.held_out().tolist() == [0, 3, 6, 11]
    assert order.row_sum(3) == 781715036991115569
    assert order.row_sum(7) == 6449119445843606781


@given(st.integers(0, 60), st.booleans(), st.integers(1, 20), st.integers(0, 2**64))
def test_the_steps_of_a_window_take_each_of_its_rows_once(
    full: int, short: bool, batch: int, seed: int
) -> None:
    if not full:
        short = True  # a window has a row
    order = WindowOrder(seed, 5, full, short, batch)
    batches = [order.places(step).tolist() for step in range(order.num_steps)]
    assert sorted(place for places in batches for place in places) == list(range(full + short))
    assert [len(places) for places in batches[:-1]] == [batch] * (order.num_steps - 1)
    assert not short or batches[-1][-1] == full


def test_the_order_of_a_window_never_changes() -> None:
    order = WindowOrder(7, window=2, num_full=10, has_short=True, batch_size=4)
    assert [order.places(step).tolist() for step in range(3)] == [
        [0, 7, 4, 1],
        [2, 9, 6, 3],
        [8, 5, 10],
    ]


def test_rows_of_a_stream_are_numbered_by_what_they_are() -> None:
    origins_R3 = np.array([[0, 1, 0], [0, 2, 0], [1, 1, 0], [0, 1, 16]])
    first, second = row_identities(0, origins_R3), row_identities(1, origins_R3)
    assert len({*first.tolist(), *second.tolist()}) == 8
    assert row_identities(0, origins_R3[::-1])[::-1].tolist() == first.tolist()
    assert (first >= 0).all()


def test_a_sample_has_an_order_of_its_own_rows() -> None:
    whole = StoreOrder(7, 1000, False, 30, 8)
    sample = whole.of_sample(50)
    assert sorted(epoch_of(sample, 0)) == list(range(50))
    assert whole.of_sample(1000) is whole
    short = StoreOrder(7, 10, True, 2, 4)
    assert short.of_sample(11) is short


# ---- counting and the fingerprint --------------------------------------------------------------


@given(ORDERS, st.integers(0, 200))
def test_rows_and_their_sum_are_computed_without_the_steps(order: StoreOrder, num: int) -> None:
    taken = list(steps(order, 1, num))
    assert order.rows_in(num) == sum(len(rows) for _, rows in taken)
    total = sum(row_hash(np.array(rows), epoch) for epoch, rows in taken)
    assert order.row_sum(num) == total % 2**64


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**9)), min_size=1, max_size=30),
)
def test_the_sum_does_not_depend_on_the_order_of_rows(applied: list[tuple[int, int]]) -> None:
    def total(rows: list[tuple[int, int]]) -> int:
        return sum(row_hash(np.array([row]), epoch) for epoch, row in rows) % 2**64

    assert total(applied) == total(sorted(applied, reverse=True))


MISTAKES = {
    "a row lost": lambda rows: rows[1:],
    "a row twice": lambda rows: [*rows, rows[0]],
    "another row in its place": lambda rows: [rows[0] + 1000, *rows[1:]],
    "one lost and one twice": lambda rows: [rows[1], *rows[1:]],
    "two swapped for two of the same sum": lambda rows: [rows[0] + 1, rows[1] - 1, *rows[2:]],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sum_detects_mistakes(mistake: str) -> None:
    order = StoreOrder(seed=42, num_full=100, has_short=False, num_held_out=0, batch_size=10)
    rows = epoch_of(order, 0)
    wrong = MISTAKES[mistake](rows)
    assert Counter(wrong) != Counter(rows)
    assert row_hash(np.array(wrong), 0) != order.row_sum(order.steps_per_epoch)


def test_the_sum_detects_a_row_of_another_epoch() -> None:
    assert row_hash(np.array([5]), 0) != row_hash(np.array([5]), 1)


def test_whole_epochs_are_summed_without_the_permutation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A permutation that loses rows does not match its own sum."""
    order = StoreOrder(seed=42, num_full=100, has_short=False, num_held_out=0, batch_size=10)
    planned = order.row_sum(10)
    monkeypatch.setattr(module, "permute", lambda indices, size, key: indices // 2)
    assert order.row_sum(10) == planned
    applied = sum(row_hash(rows, epoch) for epoch, rows in map(order.rows, range(1, 11)))
    assert applied % 2**64 != planned


# ---- size --------------------------------------------------------------------------------------

TEN_MILLION = StoreOrder(
    seed=42, num_full=10_000_000, has_short=True, num_held_out=1000, batch_size=8
)


def seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def test_seeking_to_step_a_million_is_arithmetic() -> None:
    TEN_MILLION.rows(1)
    assert min(seconds(lambda: TEN_MILLION.rows(1_000_000)) for _ in range(3)) < 0.2


def test_planning_a_million_steps_takes_seconds_not_minutes() -> None:
    assert seconds(lambda: TEN_MILLION.row_sum(1_000_000)) < 15
