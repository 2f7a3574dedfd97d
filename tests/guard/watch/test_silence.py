"""What a silent command is doing, in one line, and when it is said."""

import pytest

from headway.guard.watch.activity import TreeActivity
from headway.guard.watch.silence import doing, is_due, silence_line


@pytest.mark.parametrize(
    ("activity", "where", "gpu", "text"),
    [
        (TreeActivity(1, received_per_s=1.2e6), "", 0.0, "reading from the network (1.2 MB/s)"),
        (TreeActivity(1, cores=1.94), "", 0.0, "computing (1.9 cores)"),
        (TreeActivity(1, cores=1.0), "step (a.py:3)", 0.0, "computing (1 core, in step (a.py:3))"),
        (
            TreeActivity(1, cores=0.9, received_per_s=2000.0),
            "",
            0.0,
            "reading from the network (2.0 kB/s) · computing (0.9 cores)",
        ),
        (TreeActivity(1, cores=0.05), "", 0.97, "computing on the GPU (97% busy)"),
        (TreeActivity(1, written_per_s=3e6), "", 0.0, "writing to a disk (3.0 MB/s)"),
        (TreeActivity(1, read_per_s=3e6), "", 0.0, "reading from a disk (3.0 MB/s)"),
        (TreeActivity(1, copied_per_s=3e6), "", 0.0, "reading or writing (3.0 MB/s)"),
        (TreeActivity(1, states="TT"), "", 0.0, "stopped"),
        (
            TreeActivity(1, cores=0.04, states="SR"),
            "",
            0.0,
            "computing (less than 0.1 cores)",
        ),
        (TreeActivity(1, states="SD"), "", 0.0, "waiting for a disk"),
        (TreeActivity(1, states="S"), "get (q.py:8)", 0.0, "waiting in get (q.py:8)"),
        (TreeActivity(1), "", 0.0, "waiting"),
    ],
)
def test_doing(activity: TreeActivity, where: str, gpu: float, text: str) -> None:
    assert doing(activity, where, gpu) == text


def test_the_line() -> None:
    assert silence_line(5.2, "waiting") == "headway: no output for 5 s: waiting"
    assert silence_line(75.0, "waiting") == "headway: no output for 1 min 15 s: waiting"


def said(usual_s: float | None, *, stays: bool, until_s: int) -> list[float]:
    """Seconds of a silence at which something is said, looked at every half."""
    times: list[float] = []
    for half in range(2 * until_s):
        if is_due(half / 2, times[-1] if times else 0.0, stays=stays, usual_s=usual_s):
            times.append(half / 2)
    return times


def test_in_a_file_fewer_and_fewer_lines_are_printed() -> None:
    assert said(None, stays=True, until_s=2000) == [3.0, 15.0, 60.0, 300.0, 900.0, 1500.0]


def test_in_a_file_nothing_is_said_within_the_usual_time() -> None:
    assert said(10.0, stays=True, until_s=100) == [20.0, 60.0]


def test_on_a_terminal_the_line_is_kept_up_to_date() -> None:
    assert said(10.0, stays=False, until_s=7) == [3.0, 4.0, 5.0, 6.0]
