"""Which rows of earlier runs a step replays: evenly over the runs, the same ones every time."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.batching.listed_rows import ListedSegment
from headway.data.batching.replay import (
    ReplayOrder,
    ReplayRows,
    replay_totals,
    replayed_rows,
    split_replayed,
)
from headway.data.batching.rows import Rows, Segment
from headway.data.order import StoreOrder, row_hash
from headway.data.replay_plan import ReplayPlan, ReplaySource


def planned(*sizes: int, share: float = 0.1, batch: int = 8, seed: int = 1) -> ReplayPlan:
    sources = tuple(ReplaySource(f"{n}", "", "", size) for n, size in enumerate(sizes))
    return ReplayPlan(share, batch, seed, sources)


def drawn(plan: ReplayPlan, num_steps: int) -> list[int]:
    return [n for step in range(1, num_steps + 1) for n in replayed_rows(plan, step).tolist()]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0, 1 / 3])
def test_so_many_rows_are_replayed_as_were_asked_for(share: float) -> None:
    plan = planned(1000, 1000, share=share)
    assert len(drawn(plan, 300)) == int(300 * 8 * share + 1e-9)
    each = [len(replayed_rows(plan, step)) for step in range(1, 301)]
    assert max(each) - min(each) <= 1  # and at even distances


def test_every_run_gives_as_many_rows_whatever_its_size() -> None:
    plan = planned(1000, 40, 300)
    of_run = Counter(np.searchsorted([0, 1000, 1040], [-n - 1 for n in drawn(plan, 1500)], "right"))
    assert of_run == {1: 400, 2: 400, 3: 400}


def test_each_row_of_a_run_comes_once_before_any_comes_twice() -> None:
    plan = planned(50, 20)
    counts = Counter(drawn(plan, 125))  # 100 rows: 50 of each
    assert all(-70 <= n < 0 for n in counts)
    assert sum(counts[-1 - n] for n in range(50)) == 50
    assert {counts[-1 - n] for n in range(50)} == {1}
    assert Counter(counts[-51 - n] for n in range(20)) == {2: 10, 3: 10}


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
    st.floats(0.01, 1),
    st.integers(1, 64),
    st.integers(1, 40),
)
def test_no_step_replays_a_row_twice(sizes: list[int], share: float, batch: int, step: int) -> None:
    plan = planned(*sizes, share=share, batch=batch)
    rows = replayed_rows(plan, step)
    assert len(set(rows.tolist())) == len(rows)
    assert all(-sum(sizes) <= n < 0 for n in rows.tolist())


def test_the_seed_decides_and_nothing_else() -> None:
    assert drawn(planned(100, 100), 50) == drawn(planned(100, 100), 50)
    assert drawn(planned(100, 100), 50) != drawn(planned(100, 100, seed=2), 50)


def test_totals_are_those_of_all_steps() -> None:
    plan = planned(10, 3)
    rows = drawn(plan, 30)
    assert replay_totals(plan, 30) == (len(rows), row_hash(np.array(rows), 0))
    assert replay_totals(plan, 0) == (0, 0)


class Own(Rows):
    def segments(self, row: int) -> list[Segment]:
        return [Segment(np.array([row, row]), None)]


def test_own_rows_are_what_they_were() -> None:
    own, plan = StoreOrder(1, 20, False, 2, 8), planned(3, share=0.5)
    order, rows = (
        ReplayOrder(own, plan),
        ReplayRows(Own(), [(ListedSegment([n, n]),) for n in (7, 8, 9)]),
    )
    for step in (1, 2, 3, 4):
        epoch, numbers = order.rows(step)
        mine, others = split_replayed(numbers)
        assert (epoch, mine.tolist()) == (own.rows(step)[0], own.rows(step)[1].tolist())
        assert others.tolist() == replayed_rows(plan, step).tolist()
    assert order.held_out().tolist() == own.held_out().tolist()
    assert rows.segments(5)[0].ids.tolist() == [5, 5]
    assert [rows.segments(n)[0].ids[0] for n in (-1, -2, -3)] == [7, 8, 9]
    assert isinstance(rows.own, Own)
