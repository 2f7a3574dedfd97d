"""How long the machine has slept: the difference of two clocks."""

import time

import pytest

from headway.base.host import suspended
from headway.base.host.suspended import suspended_s


def test_a_machine_that_slept_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {7: 5000.0, time.CLOCK_MONOTONIC: 1400.0}
    monkeypatch.setattr(suspended, "_BOOTTIME", 7)
    monkeypatch.setattr(suspended.time, "clock_gettime", clocks.__getitem__)
    assert suspended_s() == 3600.0


def test_where_nothing_tells_it_never_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspended, "_BOOTTIME", None)
    assert suspended_s() == 0.0


def test_it_does_not_pass_while_the_machine_is_awake() -> None:
    before_s = suspended_s()
    assert before_s >= 0.0
    assert suspended_s() - before_s == pytest.approx(0.0, abs=0.1)
