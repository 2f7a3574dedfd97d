"""What processes did between two looks."""

import os
import time

import pytest

from headway.guard.watch.activity import (
    Counters,
    TreeActivity,
    activity_between,
    read_counters,
)


def test_rates_lie_between_two_looks() -> None:
    before = Counters(10.0, {1: 5.0, 2: 1.0}, {1: 100}, {1: 0}, {1: 0}, {7: 1000}, 5)
    after = Counters(12.0, {1: 6.0, 3: 2.0}, {1: 300}, {1: 50}, {1: 10}, {7: 5000, 8: 20}, 9, "SR")
    found = activity_between(before, after)
    assert found.cores == 1.5, "a process that is new counts, one that ended does not"
    assert (found.read_per_s, found.written_per_s) == (100.0, 25.0)
    assert found.received_per_s == 2010.0
    assert (found.memory_bytes, found.states) == (9, "SR")


@pytest.mark.parametrize(
    ("activity", "is_idle"),
    [
        (TreeActivity(1.0), True),
        (TreeActivity(1.0, cores=0.01, copied_per_s=500.0), True),
        (TreeActivity(1.0, cores=0.5), False),
        (TreeActivity(1.0, cores=0.15), False),  # a machine that others use
        (TreeActivity(1.0, received_per_s=100.0), False),
        (TreeActivity(1.0, written_per_s=1e6), False),
        (TreeActivity(1.0, read_per_s=1e6), False),
    ],
)
def test_who_neither_computes_nor_moves_data_is_idle(
    activity: TreeActivity, *, is_idle: bool
) -> None:
    assert activity.is_idle is is_idle


def test_this_process_is_seen_computing() -> None:
    before = read_counters([os.getpid()], time.monotonic())
    used_s = time.process_time()
    while time.process_time() - used_s < 0.1:
        pass
    after = read_counters([os.getpid(), 2**22 + 1], time.monotonic())
    assert activity_between(before, after).cores > 0
    assert after.memory_bytes > 1_000_000
    assert len(after.states) == 1
