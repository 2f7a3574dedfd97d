"""Batches: any step at any time, prefetched, with a named wait."""

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.helpers import chat_store, chats, text_store

from headway.base.pulse import Pulse, read_pulse
from headway.data.batching.batches import Batch, evaluation_micro_batches, make_batch, prefetch
from headway.data.batching.rows import Rows, rows_of
from headway.data.order import StoreOrder
from headway.runs.workers import WorkerTree


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return rows_of(chat_store(tmp_path, *chats(21)), 32)


@pytest.fixture
def order(rows: Rows) -> StoreOrder:
    return StoreOrder(seed=7, num_full=rows.num_full, has_short=False, num_held_out=0, batch_size=4)


def batch(rows: Rows, order: StoreOrder, step: int) -> Batch:
    return make_batch(rows, order, step, leaves=2, micro_batch_tokens=16, device="cpu")


def numbers(batch: Batch) -> list[int]:
    return sorted(int(n) for leaf in batch.leaves for micro in leaf for n in micro.rows_R)


def test_a_batch_is_the_steps_rows_and_counts_them(rows: Rows, order: StoreOrder) -> None:
    for step in range(1, 2 * order.steps_per_epoch + 1):
        made = batch(rows, order, step)
        epoch, wanted = order.rows(step)
        assert (made.step, made.epoch) == (step, epoch)
        assert numbers(made) == sorted(wanted.tolist())
        assert len(made.carried_R) == len(wanted)
        assert made.num_tokens == rows.lengths()[wanted].sum()
        micros = [micro for leaf in made.leaves for micro in leaf]
        assert made.num_tokens == sum(len(m.ids_N) for m in micros)
        assert made.num_trained == sum(len(m.targets_M) for m in micros)


def test_a_batch_is_a_function_of_its_step(rows: Rows, order: StoreOrder) -> None:
    first, again = batch(rows, order, 5), batch(rows, order, 5)
    for one, other in zip(first.leaves, again.leaves, strict=True):
        assert all(torch.equal(a.ids_N, b.ids_N) for a, b in zip(one, other, strict=True))


def test_the_short_row_makes_the_last_batch_one_larger(tmp_path: Path) -> None:
    rows = rows_of(text_store(tmp_path, 100), 8)  # 99 targets: 12 rows and 3 targets
    order = StoreOrder(seed=7, num_full=12, has_short=True, num_held_out=0, batch_size=4)
    sizes = [len(batch(rows, order, step).carried_R) for step in (1, 2, 3)]
    assert sizes == [4, 4, 5]
    assert sum(batch(rows, order, step).num_trained for step in (1, 2, 3)) == 99


def test_rows_to_evaluate_are_one_list_of_micro_batches(rows: Rows) -> None:
    micros = evaluation_micro_batches(rows, np.array([3, 1, 2]), 16, "cpu")
    assert sorted(int(n) for m in micros for n in m.rows_R) == [1, 2, 3]
    assert all(len(m.ids_N) <= 16 for m in micros)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_workers_evaluate_neighboring_micro_batches_of_the_same_list(
    rows: Rows, num_workers: int
) -> None:
    def shared(own: Callable[[int], range]) -> list[list[int]]:
        numbers = np.array([3, 1, 2, 5, 4])
        micros = evaluation_micro_batches(rows, numbers, 64, "cpu", leaves=4, own=own)
        return [m.rows_R.tolist() for m in micros]

    tree = WorkerTree(num_workers)
    parts = [shared(partial(tree.leaves_of, rank)) for rank in range(num_workers)]
    assert all(parts)
    assert [*chain.from_iterable(parts)] == shared(range)


# ---- ahead of their use ------------------------------------------------------------------------


def fake(step: int) -> Batch:
    return Batch(step, 0, (), 1, 1, 1, 1, 0)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 7), (4, 7), (7, 7), (8, 7)])
def test_every_step_comes_once_in_order(first: int, last: int) -> None:
    got = [batch.step for batch in prefetch(fake, first, last, Pulse())]
    assert got == list(range(first, last + 1))


def test_at_most_two_steps_are_made_ahead() -> None:
    made: list[int] = []

    def make(step: int) -> Batch:
        made.append(step)
        return fake(step)

    batches = prefetch(make, 1, 100, Pulse())
    for step in range(1, 20):
        assert next(batches).step == step
        assert max(made) <= step + 2
    batches.close()  # type: ignore[attr-defined]
    assert len(made) <= 22


def test_a_wait_for_rows_is_named_and_beats(tmp_path: Path) -> None:
    path, released, seen = tmp_path / "pulse", threading.Event(), dict[int, str]()

    def watch() -> None:
        """Let the batch come once the wait has been seen with three different beats."""
        deadline_s = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < deadline_s:
            reading = read_pulse(path)
            if reading and reading.waiting:
                seen[reading.beat] = reading.waiting
            time.sleep(0.001)
        released.set()

    def make(step: int) -> Batch:
        released.wait(30)
        return fake(step)

    pulse, watcher = Pulse(path), threading.Thread(target=watch)
    watcher.start()
    assert [batch.step for batch in prefetch(make, 3, 3, pulse, poll_s=0.01)] == [3]
    watcher.join()
    assert list(seen.values()) == ["the rows of step 3"] * 3
    reading = read_pulse(path)
    assert reading is not None
    assert reading.waiting == ""


def test_o03_on_wait_can_end_the_wait_without_waiting_for_the_batch() -> None:
    def on_wait() -> None:
        raise InterruptedError

    released, waited = threading.Event(), list[bool]()
    batches = prefetch(
        lambda step: waited.append(released.wait(20)) or fake(step), 1, 3, Pulse(), on_wait=on_wait
    )
    with pytest.raises(InterruptedError):
        next(batches)
    assert waited == []
    released.set()


def test_a_batch_that_fails_raises_at_its_step() -> None:
    def make(step: int) -> Batch:
        if step == 2:
            raise TimeoutError("the disk")
        return fake(step)

    batches = prefetch(make, 1, 3, Pulse(), poll_s=0.01)
    assert next(batches).step == 1
    with pytest.raises(TimeoutError, match="the disk"):
        next(batches)
