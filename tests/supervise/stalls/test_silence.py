"""A worker that is not making progress is found, and no other; the clock is the test's."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.ui.fixtures import pulse

from headway.base.pulse import PulseReading
from headway.supervise.stalls.silence import Moment, Silences, StuckWorker, kind_of
from headway.supervise.stalls.stall_limits import PATIENCE, Known

PEERS = {"activity": "waiting for workers", "waiting": "worker 1"}
DATA = {"activity": "waiting for data", "waiting": "the rows of step 3"}


def watched(seconds: int, *changes: dict[str, Any], step_s: float | None = 0.5) -> set[int]:
    """The ranks that were due at some time; a change is a constant or a function of the time."""
    team, found = Silences(), set[int]()
    for now_s in range(seconds):
        pulses = [
            pulse(rank=rank, **{k: v(now_s) if callable(v) else v for k, v in change.items()})
            for rank, change in enumerate(changes)
        ]
        team.look(pulses, Moment(float(now_s)))
        late = team.late(pulses, lambda one: PATIENCE.end_s(one, Known(step_s)))
        found |= {one.rank for one in late}
    return found


def beating(now_s: int) -> int:
    return now_s


def test_a_worker_without_a_beat_is_stuck_and_those_that_wait_for_it_are_not() -> None:
    waiting = {**PEERS, "waiting_since": 0.0, "beat": beating}
    assert watched(55, waiting, {"beat": 7}, waiting) == set()
    assert watched(65, waiting, {"beat": 7}, waiting) == {1}


def test_a_root_without_a_beat_is_stuck_too() -> None:
    assert watched(65, {"beat": 7}, {**PEERS, "waiting_since": 0.0}) == {0}


def test_one_worker_alone_is_found_as_well() -> None:
    assert watched(65, {"beat": 7}) == {0}
    assert watched(1000, {"beat": beating}) == set()


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
    assert Silences().late([], lambda _: 0.0) == []


def test_a_new_process_begins_anew() -> None:
    assert watched(100, {"beat": 1, "pid": lambda now_s: now_s // 50}, {"beat": beating}) == set()


def test_it_is_told_how_long() -> None:
    team = Silences()
    for now_s in range(62):
        both = [pulse(rank=2, beat=7), pulse(rank=3, beat=now_s)]
        team.look(both, Moment(float(now_s)))
    assert team.late(both, lambda _: 60.0) == [StuckWorker(2, 61.0)]
    assert team.seen_s(2) == 61.0


# -- time that counts against nobody -----------------------------------------------------------


def silent_after(moments: list[Moment]) -> tuple[bool, bool]:
    """Whether a silent worker would be noticed, and ended, after such looks."""
    team, silent = Silences(), [pulse(beat=7)]
    for moment in moments:
        team.look(silent, moment)
    return bool(team.late(silent, lambda _: 10.0)), bool(
        team.late(silent, lambda _: 60.0, counted=True)
    )


def test_a_supervisor_that_was_stopped_itself_has_seen_nothing() -> None:
    assert silent_after([Moment(t) for t in (0.0, 1.0, 5000.0, 5001.0)]) == (False, False)


def test_a_machine_that_slept_makes_all_silences_begin_anew() -> None:
    awake = [Moment(float(t)) for t in range(9)]
    slept = [Moment(float(t), suspended_s=28_800.0) for t in range(9, 19)]
    assert silent_after(awake + slept) == (False, False)
    assert silent_after([*awake, *(Moment(float(t)) for t in range(9, 19))]) == (True, False)


@pytest.mark.parametrize(("share", "is_ended"), [(0.0, False), (0.25, False), (1.0, True)])
def test_a_debugger_and_a_loaded_machine_delay_the_end(share: float, is_ended: bool) -> None:
    moments = [Moment(float(t), counted={4243: share}) for t in range(100)]
    assert silent_after(moments) == (True, is_ended)


# -- healthy steps -------------------------------------------------------------------------------


def steady(_: random.Random) -> Iterator[float]:
    return itertools.repeat(1.0)


def exponential(chance: random.Random) -> Iterator[float]:
    return (chance.expovariate(1.0) for _ in itertools.count())


def heavy_tail(chance: random.Random) -> Iterator[float]:
    """Pareto: one step in a thousand takes sixteen times as long as the shortest."""
    return (chance.paretovariate(2.5) for _ in itertools.count())


def long_every_fifty(_: random.Random) -> Iterator[float]:
    """Rows of a length that comes now and then."""
    return (8.0 if n % 50 == 49 else 1.0 for n in itertools.count())


@pytest.mark.parametrize("lengths", [steady, exponential, heavy_tail, long_every_fifty])
@pytest.mark.parametrize("scale_s", [0.02, 0.3, 0.6, 5.0, 20.0])
def test_no_alarm_in_1000_healthy_steps(
    lengths: Callable[[random.Random], Iterator[float]], scale_s: float
) -> None:
    chance, team = random.Random(7), Silences()
    now_s, recent = 0.0, list[float]()
    for step, length in zip(range(1000), lengths(chance), strict=False):
        ends_s, usual_s = now_s + scale_s * length, sorted(recent)[len(recent) // 2 :][:1]
        while now_s < ends_s:
            reading = pulse(beat=step, step=step)
            team.look([reading], Moment(now_s))
            gap_s = team.longest_s.get(kind_of(reading), 0.0)
            step_s = usual_s[0] if usual_s else None
            limit_s = PATIENCE.notice_s(reading, Known(step_s, gap_s))
            late = team.late([reading], lambda _, limit_s=limit_s: limit_s)
            assert not late, f"step {step} of {scale_s * length:.1f} s, {step_s} s usually"
            now_s += min(1.0, max(0.2, scale_s / 4))
        recent = [*recent, scale_s * length][-20:]


# -- what a run learns -----------------------------------------------------------------------------


def saved_for(team: Silences, began_s: int, length_s: int, stalled: set[int]) -> None:
    for now_s in range(began_s, began_s + length_s):
        team.look([pulse(phase="saving", beat=began_s)], Moment(float(now_s)), stalled)
    team.look([pulse(beat=began_s + 1)], Moment(float(began_s + length_s)), stalled)


def test_a_long_save_is_learned() -> None:
    team = Silences()
    saved_for(team, 0, 25, set())
    saved_for(team, 100, 12, set())
    assert team.longest_s["saving"] == 25.0


def test_nothing_is_learned_from_a_stall() -> None:
    team = Silences()
    saved_for(team, 0, 25, {0})
    assert "saving" not in team.longest_s


def test_waits_are_learned_apart_from_work() -> None:
    readings: list[PulseReading] = [pulse(), pulse(**DATA), pulse(**PEERS), pulse(waiting="x")]
    assert len(set(map(kind_of, readings))) == 4
