"""What is watched reaches the screen: each event once, the pulses all the time."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.ui.fixtures import step_done

from headway.base.events import AttemptStarted, EventLog, EventReader, LogEntry
from headway.base.pulse import Phase, Pulse
from headway.supervise import watch as watching
from headway.supervise.progress import Progress, Readings, Status
from headway.supervise.watch import Watch


class Seen:
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[LogEntry] = []
        self.statuses: list[Status] = []

    def event(self, entry: LogEntry) -> None:
        self.events.append(entry)

    def status(self, status: Status) -> None:
        self.statuses.append(status)


class Child:
    """A process that is running for so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_running(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def wait_up_to(self, limit_s: float) -> None:
        assert limit_s == watching.POLL_S


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_S", 0.0)
    monkeypatch.setattr(watching, "LOOK_S", 0.0)


def watch_of(tmp_path: Path, **given: Any) -> tuple[Watch, Any]:
    screen: Any = Seen()
    return Watch(screen, tmp_path, Progress("notes"), **given), screen


def follow(watch: Watch, looks: int) -> Any:
    child: Any = Child(looks)
    return watch.follow(child)


def test_the_pulses_are_shown_until_the_process_ends(tmp_path: Path) -> None:
    watch, screen = watch_of(tmp_path)
    pulse = Pulse(tmp_path / "rank-0.pulse")
    phases = iter((Phase.SAVING, Phase.SAMPLING))
    for _ in follow(watch, 2):
        pulse.enter(next(phases))
    assert [status.phase for status in screen.statuses] == ["saving", "sampling"]


def test_each_event_is_shown_once_the_last_ones_too(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    watch, screen = watch_of(tmp_path, events=EventReader(log.path))
    log.write(AttemptStarted("notes", "0.1.0", 1, 0, ""))
    looks = follow(watch, 2)
    next(looks)
    assert screen.events == []
    next(looks)
    log.write(step_done(1))
    assert list(looks) == []
    assert [entry.event.__class__.__name__ for entry in screen.events] == [
        "AttemptStarted",
        "StepDone",
    ]
    assert watch.progress.status(Readings(), 0.0).step == 1


def test_the_run_gets_a_copy_of_the_pulses_now_and_then(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    watch, _ = watch_of(tmp_path, run=tmp_path / "run")
    pulse = Pulse(tmp_path / "rank-0.pulse")
    copied: list[str] = []
    for _ in follow(watch, 3):
        pulse.enter(Phase.SAVING if copied else Phase.TRAINING)
        path = tmp_path / "run" / "pulse.json"
        if path.exists():
            copied.append(msgspec.json.decode(path.read_bytes(), type=Readings).workers[0].phase)
    assert copied == ["training", "training"]  # a second has not passed


def test_a_process_is_looked_at_more_often_than_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulses, events and a status cost more than to ask whether a process has ended."""
    monkeypatch.setattr(watching, "LOOK_S", 60.0)
    watch, screen = watch_of(tmp_path)
    assert len(list(follow(watch, 50))) == 50
    assert len(screen.statuses) == 1


def test_whoever_follows_may_leave_at_any_look(tmp_path: Path) -> None:
    watch, screen = watch_of(tmp_path)
    for number, _ in enumerate(follow(watch, 100)):
        if number == 3:
            break
    assert len(screen.statuses) == 3
