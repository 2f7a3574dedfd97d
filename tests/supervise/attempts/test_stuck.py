"""A worker that does not get on is found, and no other; the clock is the test's."""

from typing import Any

import pytest
from tests.ui.fixtures import pulse

from headway.base.pulse import PulseReading
from headway.supervise.attempts import stuck
from headway.supervise.attempts.stuck import StuckWorker, StuckWorkers, limit_s

PEERS = {"activity": "waiting for workers", "waiting": "worker 1"}
DATA = {"activity": "waiting for data", "waiting": "the rows of step 3"}


def watched(seconds: int, *changes: dict[str, Any], step_s: float | None = 0.5) -> set[int]:
    """The ranks that were stuck at some time; a change is a constant or a function of the time."""
    team, found = StuckWorkers(), set[int]()
    for now_s in range(seconds):
        pulses = [
            pulse(rank=rank, **{k: v(now_s) if callable(v) else v for k, v in change.items()})
            for rank, change in enumerate(changes)
        ]
        found |= {one.rank for one in team.look(pulses, float(now_s), step_s)}
    return found


def beating(now_s: int) -> int:
    return now_s


def test_a_worker_without_a_beat_is_stuck_and_those_that_wait_for_it_are_not() -> None:
    waiting = {**PEERS, "waiting_since": 0.0, "beat": beating}
    assert watched(55, waiting, {"beat": 7}, waiting) == set()
    assert watched(65, waiting, {"beat": 7}, waiting) == {1}


def test_a_root_without_a_beat_is_stuck_too() -> None:
    assert watched(65, {"beat": 7}, {**PEERS, "waiting_since": 0.0}) == {0}


def test_beats_of_one_wait_prove_nothing_but_that_it_waits() -> None:
    rows = {**DATA, "waiting_since": 0.0, "beat": beating}
    assert watched(590, rows, {"beat": beating}) == set()
    assert watched(610, rows, {"beat": beating}) == {0}


def test_waits_that_end_are_no_matter() -> None:
    rows = {**DATA, "waiting_since": lambda now_s: float(now_s // 50), "beat": beating}
    assert watched(2000, rows, {"beat": beating}) == set()


def test_when_all_wait_for_one_another_the_first_ends_it() -> None:
    waiting = {**PEERS, "waiting_since": 0.0, "beat": beating}
    assert watched(65, waiting, waiting, waiting) == {0}
    assert StuckWorkers().look([], 0.0, None) == []


def test_a_supervisor_that_was_stopped_itself_has_seen_nothing() -> None:
    team, silent = StuckWorkers(), [pulse(rank=1, beat=7)]
    for now_s in (0.0, 1.0, 5000.0, 5001.0):
        assert team.look(silent, now_s, 0.5) == []


def test_a_new_process_begins_anew() -> None:
    assert watched(100, {"beat": 1, "pid": lambda now_s: now_s // 50}, {"beat": beating}) == set()


@pytest.mark.parametrize(
    ("changes", "step_s", "limit"),
    [
        ({}, 0.2, stuck.FLOOR_S),
        ({}, 30.0, 600.0),
        ({}, None, stuck.FIRST_S),
        (DATA, 0.2, stuck.FIRST_S),
        ({"phase": "loading the model"}, None, stuck.OTHER_S),
        ({"phase": "saving"}, 0.2, stuck.OTHER_S),
    ],
)
def test_what_it_does_and_the_usual_step_decide(
    changes: dict[str, Any], step_s: float | None, limit: float
) -> None:
    reading: PulseReading = pulse(**changes)
    assert limit_s(reading, step_s) == limit


def test_it_is_told_how_long() -> None:
    team = StuckWorkers()
    for now_s in range(61):
        team.look([pulse(rank=2, beat=7), pulse(rank=3, beat=now_s)], float(now_s), 0.5)
    late = team.look([pulse(rank=2, beat=7), pulse(rank=3, beat=99)], 61.0, 0.5)
    assert late == [StuckWorker(2, 61.0)]
