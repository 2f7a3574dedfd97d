"""F17: a worker three times slower than the others is told once, and no other ever is."""

import random

import pytest

from headway.base.errors import Cause, Finding
from headway.training.distributed.stragglers import Stragglers


def told(steps: int, *leaf_s: float, seed: int = 0, jitter: float = 0.3) -> list[Finding]:
    """What is told of steps in which each worker takes about so long, now and then much longer."""
    chance, stragglers, found = random.Random(seed), Stragglers(), list[Finding]()
    for _ in range(steps):
        took = {
            rank: usual_s
            * chance.uniform(1, 1 + jitter)
            * (8 if jitter and chance.random() < 0.05 else 1)
            for rank, usual_s in enumerate(leaf_s)
        }
        found += stragglers.add(took)
    return found


def test_f17_a_worker_that_takes_three_times_as_long_is_told_once_within_20_steps() -> None:
    (finding,) = told(20, 0.2, 0.7, 0.2, 0.2)
    assert (finding.kind, finding.cause) == ("warning", Cause.STRAGGLER)
    assert finding.what.startswith("worker 1 takes 3.")
    assert "0.2 s elsewhere" in finding.have
    assert len(told(1000, 0.2, 0.7, 0.2, 0.2)) == 1


@pytest.mark.parametrize("seed", range(10))
def test_f17_healthy_steps_raise_no_alarm(seed: int) -> None:
    assert told(1000, 0.2, 0.25, 0.2, 0.3, seed=seed) == []


@pytest.mark.parametrize(
    ("leaf_s", "ranks"),
    [
        ((0.2, 0.7), [1]),  # two workers: each is the other's measure
        ((0.2, 0.5, 0.2), []),  # less than three times
        ((0.001, 0.009, 0.001), []),  # milliseconds are no matter
        ((0.9, 0.2, 0.2, 0.9, 0.2, 0.2), [0, 3]),
    ],
)
def test_who_is_told(leaf_s: tuple[float, ...], ranks: list[int]) -> None:
    found = told(50, *leaf_s, jitter=0.0)
    assert [int(one.what.split()[1]) for one in found] == ranks


def test_the_first_steps_and_a_few_slow_ones_are_no_matter() -> None:
    stragglers = Stragglers()
    slow, usual = {0: 0.1, 1: 5.0}, {0: 0.1, 1: 0.1}
    for took in (*[slow] * 3, *[slow, usual, usual] * 20):
        assert stragglers.add(took) == []
