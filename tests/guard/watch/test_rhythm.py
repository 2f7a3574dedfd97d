"""Patience: a multiple of the usual interval between two pieces of news, within limits."""

import pytest

from headway.guard.watch.rhythm import CAP_S, FLOOR_S, UNLEARNED_S, Rhythm


def learned(*intervals: float, stall_after_s: float = 0.0) -> Rhythm:
    rhythm, at_s = Rhythm(stall_after_s), 100.0
    rhythm.news(at_s)
    for interval in intervals:
        at_s += interval
        rhythm.news(at_s)
        rhythm.news(at_s)  # the same news seen twice
    return rhythm


@pytest.mark.parametrize(
    ("rhythm", "patience_s"),
    [
        (learned(), UNLEARNED_S),
        (learned(*[0.5] * 20), FLOOR_S),
        (learned(*[4.0] * 20), 40.0),
        (learned(*[4.0] * 20, 30.0), 90.0),
        (learned(*[100.0] * 20), CAP_S),
        (learned(50.0), 150.0),
        (learned(*[4.0] * 20, stall_after_s=7.0), 7.0),
    ],
    ids=["nothing yet", "fast", "slow", "a long one", "very slow", "too few", "asked for"],
)
def test_patience(rhythm: Rhythm, patience_s: float) -> None:
    assert rhythm.patience_s == patience_s


def test_lines_printed_together_are_one_piece_of_news() -> None:
    rhythm = learned(*[5.0, 0.001, 0.001, 0.001] * 10)
    assert rhythm.usual_s == 5.0


def test_a_time_in_which_all_was_stopped_is_no_interval() -> None:
    rhythm = learned(*[1.0] * 10)
    rhythm.restart_clock(3600.0)
    rhythm.news(100.0 + 10 + 3600 + 1)
    assert rhythm.longest_s == 1.0
