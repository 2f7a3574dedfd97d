"""When a job saves, and which phase each second belongs to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import in_memory, plan_of

from headway.base.events import EventLog, PhaseEntered, read_events
from headway.base.pulse import Pulse
from headway.trainer import phases, saving
from headway.trainer.calibrate import foretell_rest
from headway.trainer.folder import RunFolder
from headway.trainer.phases import Phases
from headway.trainer.saving import Saver

PLAN = plan_of(in_memory(1601), max_length=16)


class Clock:
    """Time that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def saver(folder: Path, every_steps: int, every_minutes: float) -> Saver:
    saves = replace(PLAN.saves, every_steps=every_steps, every_minutes=every_minutes)
    log = EventLog(folder / "events.jsonl")
    return Saver(RunFolder(folder), replace(PLAN, saves=saves), log, Phases(Pulse(), log))


def test_a_save_is_due_by_steps(tmp_path: Path) -> None:
    one = saver(tmp_path, every_steps=4, every_minutes=1000)
    assert [step for step in range(1, 13) if one.is_due(step)] == [4, 8, 12]


def test_a_save_is_due_by_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    one = saver(tmp_path, every_steps=1000, every_minutes=2)
    clock.now_s += 119
    assert not one.is_due(7)
    clock.now_s += 1
    assert one.is_due(7)


def test_each_second_belongs_to_the_innermost_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(phases, "time", clock)
    phase = Phases(Pulse(), EventLog(tmp_path / "events.jsonl"))
    with phase("training"):
        clock.now_s += 5
        with phase("saving"):
            clock.now_s += 2
        clock.now_s += 1
        with phase("saving"):
            clock.now_s += 3
    assert {name: s for name, s in phase.seconds.items() if name} == {"training": 6, "saving": 5}
    told = [entry.event for entry in read_events(tmp_path / "events.jsonl")]
    assert told == [PhaseEntered("training"), PhaseEntered("saving"), PhaseEntered("saving")]


def test_a_phase_ends_even_when_it_fails(tmp_path: Path) -> None:
    pulse = Pulse()
    phase = Phases(pulse, EventLog(tmp_path / "events.jsonl"))
    with pytest.raises(KeyboardInterrupt), phase("saving"):
        raise KeyboardInterrupt
    assert phase.seconds["saving"] >= 0
    assert pulse._phase == "starting"


@pytest.mark.parametrize(
    ("changes", "steps_left", "seconds"),
    [
        ({"every_steps": 1000}, 100, 100 * 0.5 + 3 + 2 + 1),
        ({"every_steps": 1000, "eval_steps": 10}, 100, 100 * 0.5 + 3 + 2 + 11),
        ({"every_steps": 1000}, 0, 3 + 2 + 1),
    ],
)
def test_the_rest_is_foretold_from_what_the_phases_took(
    changes: dict[str, Any], steps_left: int, seconds: float
) -> None:
    saves = replace(PLAN.saves, every_steps=changes["every_steps"], bytes_each=0)
    looks = replace(PLAN.looks, eval_steps=changes.get("eval_steps", 0))
    plan = replace(PLAN, saves=saves, looks=looks)
    took = {"loading the model": 3.0, "probing": 2.0, "evaluating": 1.0}
    assert foretell_rest(plan, steps_left, 0.5, took) == pytest.approx(seconds, abs=0.1)
