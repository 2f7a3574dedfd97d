"""What a worker's time goes to: no second counts twice."""

import pytest

from headway.base.host.utilization import Activity, Shares, Spent
from headway.base.pulse import Pulse, PulseReading, read_pulse


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr("headway.base.pulse.time.monotonic", ours.monotonic)
    return ours


def test_the_innermost_activity_counts(clock: Clock) -> None:
    pulse = Pulse()
    with pulse.activity(Activity.SAVING):
        clock.now_s += 100  # before the first step: not counted
    pulse.count_time()
    with pulse.activity(Activity.COMPUTING):
        clock.now_s += 3
        with pulse.activity(Activity.PEERS):
            clock.now_s += 2
        clock.now_s += 1
    clock.now_s += 2  # nothing of these
    pulse.count_time()  # goes on counting
    with pulse.activity(Activity.DATA):
        clock.now_s += 1
        assert pulse.spent() == Spent(4, 1, 2, 0, 9)  # up to now
    with pulse.activity(Activity.SAVING):
        clock.now_s += 1
    assert pulse.spent() == Spent(4, 1, 2, 1, 10)
    assert pulse.spent().shares == Shares(0.4, 0.1, 0.2, 0.1)


def test_another_process_reads_it_up_to_now(clock: Clock, tmp_path: object) -> None:
    path = f"{tmp_path}/pulse"
    from pathlib import Path

    pulse = Pulse(Path(path))
    pulse.count_time()
    with pulse.activity(Activity.COMPUTING):
        clock.now_s += 5
        reading = read_pulse(Path(path))
        assert isinstance(reading, PulseReading)
        assert reading.activity == "computing"
        assert reading.spent(clock.now_s + 1) == Spent(computing=6, total=6)


def test_nothing_is_counted_before_the_first_step() -> None:
    assert Spent().shares == Shares()
    assert Activity.parse("") is None
    assert Activity.parse("waiting for workers") is Activity.PEERS
