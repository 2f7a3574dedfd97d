"""The measurement of what watching costs: who pays, and how it is counted."""

import importlib
import types
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "peers")
    return importlib.import_module


def test_the_supervisors_share_is_of_the_time_between_two_steps(load: Load) -> None:
    watch = load("overhead").SupervisorWatch()
    watch.seen = [(0.0, 5.0), (10.0, 5.5), (20.0, 5.6), (30.0, 5.7), (40.0, 9.0)]
    assert watch.share(10.0, 30.0) == pytest.approx(0.01)


def test_without_watching_nothing_is_called_and_afterwards_everything_again(load: Load) -> None:
    switching = load("watched_steps")

    class Calls:
        def __init__(self) -> None:
            self.num = 0

        def beat(self) -> None:
            self.num += 1

        write = waiting = activity = beat

    pulse, log, attempt, stepper = Calls(), Calls(), Calls(), Calls()
    attempt.phase = types.SimpleNamespace(pulse=pulse)  # type: ignore[attr-defined]
    attempt.log = log  # type: ignore[attr-defined]
    attempt.trainer = types.SimpleNamespace(stepper=stepper)  # type: ignore[attr-defined]
    stepper.no_gradient_yet = {"a"}  # type: ignore[attr-defined]
    switch = switching.Switch(attempt)

    def call() -> list[int]:
        pulse.beat()
        log.write()
        return [pulse.num, log.num]

    switch.turn(on=False)
    switch.turn(on=False)
    assert call() == [0, 0]
    assert stepper.no_gradient_yet == set()  # type: ignore[attr-defined]
    switch.turn(on=True)
    switch.turn(on=True)
    assert call() == [1, 1]
    assert stepper.no_gradient_yet == {"a"}  # type: ignore[attr-defined]
