"""Phases: each second belongs to the innermost one, and one that fails ends, too."""

from pathlib import Path

import pytest
from tests.training.clock import Clock

from headway.base.events import EventLog, PhaseEntered, read_events
from headway.base.pulse import Phase, Pulse
from headway.training import phases
from headway.training.phases import Phases


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


def test_what_came_before_counts_too(tmp_path: Path) -> None:
    before = {Phase.IMPORTING_TORCH: 3.0}
    phase = Phases(Pulse(), EventLog(tmp_path / "events.jsonl"), before)
    with phase(Phase.SAVING):
        pass
    assert phase.seconds[Phase.IMPORTING_TORCH] == 3
    assert before == {Phase.IMPORTING_TORCH: 3.0}


def test_a_phase_ends_even_when_it_fails(tmp_path: Path) -> None:
    pulse = Pulse()
    phase = Phases(pulse, EventLog(tmp_path / "events.jsonl"))
    with pytest.raises(KeyboardInterrupt), phase("saving"):
        raise KeyboardInterrupt
    assert phase.seconds["saving"] >= 0
    assert pulse._phase == "starting"
