"""Whether new workers take the place of killed ones, and when that ends."""

from collections.abc import Sequence

import pytest

from headway.base.errors import Cause, Finding
from headway.supervise.attempts.restart import LostWorkers, Restart, Restarts, follow_attempts

KILLED = Finding("warning", "worker 1 was killed", cause=Cause.PROCESS_KILLED)


def losses(*steps: int) -> list[LostWorkers]:
    return [LostWorkers(KILLED, step) for step in steps]


@pytest.mark.parametrize(
    ("most", "steps", "why_not"),
    [
        (10, (0,), ""),  # the first loss may come before any step
        (10, (0, 0), "no new step"),
        (10, (5, 5), "no new step"),
        (10, (5, 4), "no new step"),  # the same steps once more
        (10, (5, 6), ""),
        (10, (5, 9, 8), "no new step"),
        (10, range(9), ""),
        (3, (1, 2, 3), ""),
        (3, (1, 2, 3, 4), "as many restarts as --max-restarts allows: 3"),
        (0, (7,), "--max-restarts is 0"),
    ],
)
def test_f22_restarts_lead_to_new_steps_or_end(
    most: int, steps: Sequence[int], why_not: str
) -> None:
    restarts = Restarts(most)
    *earlier, last = (restarts.take(loss) for loss in losses(*steps))
    assert set(earlier) <= {""}
    assert why_not in last
    assert bool(why_not) == bool(last)


def test_f54_the_out_of_memory_killer_comes_once() -> None:
    restarts = Restarts(10)
    assert restarts.take(LostWorkers(KILLED, 3, out_of_memory=True)) == ""
    assert restarts.take(LostWorkers(KILLED, 5)) == ""
    assert "out-of-memory killer" in restarts.take(LostWorkers(KILLED, 9, out_of_memory=True))


class Scripted:
    """Attempts that end as a test says."""

    def __init__(self, *losses: LostWorkers | None) -> None:
        self.losses = list(losses)
        self.restarts: list[Restart] = []
        self.closed: list[str] = []

    def follow(self) -> LostWorkers | None:
        return self.losses.pop(0)

    def close(self, why_no_restart: str = "") -> int:
        self.closed.append(why_no_restart)
        return 5

    def start(self, restart: Restart) -> "Scripted":
        self.restarts.append(restart)
        return self


def test_attempts_follow_one_another_until_one_ends_the_run() -> None:
    attempts = Scripted(*losses(2, 4), None)
    assert follow_attempts(attempts, Restarts(10), lambda: False, attempts.start) == 5
    assert attempts.restarts == [Restart(1, KILLED.what), Restart(2, KILLED.what)]
    assert attempts.closed == [""]


def test_the_last_attempt_hears_why_there_is_no_further_one() -> None:
    attempts = Scripted(*losses(2, 2))
    follow_attempts(attempts, Restarts(10), lambda: False, attempts.start)
    assert len(attempts.restarts) == 1
    assert "no new step" in attempts.closed[0]


def test_nothing_is_restarted_after_a_stop_request() -> None:
    attempts = Scripted(*losses(2))
    follow_attempts(attempts, Restarts(10), lambda: True, attempts.start)
    assert attempts.restarts == []
    assert attempts.closed == [""]
