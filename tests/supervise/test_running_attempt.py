"""An attempt followed to its last event: stops, losses, and roots that die or hang."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.supervise.test_supervisor import Child, Screen

from headway.base.errors import Cause, Exit, Finding
from headway.base.events import Ended, EventLog, EventReader, Noted, StopAsked, read_events
from headway.base.process import Stop
from headway.runs.folder import RunFolder
from headway.supervise.progress import Progress
from headway.supervise.running_attempt import RunningAttempt, newest_receipt
from headway.supervise.watch import Watch


class Root(Child):
    """A root that takes `looks` looks, then logs what a test says and ends."""

    started: list[Child] = []  # noqa: RUF012 - not used here


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "AttemptOfTest":
    monkeypatch.setattr("headway.supervise.watch.POLL_S", 0.0)
    monkeypatch.setattr("headway.supervise.running_attempt._EXIT_S", 0.02)
    return AttemptOfTest(tmp_path)


class AttemptOfTest:
    """An attempt with a root that does what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.screen, self.stop = RunFolder(folder), Screen(), Stop()
        self.log = EventLog(self.folder.events, 1, began_s=0.0)
        self.losses: list[Finding] = []
        self.root = Root("headway.training.worker", ["-"])

    def follow(self, grace_s: float = 10.0) -> int:
        def take_losses() -> list[Finding]:
            taken, self.losses = self.losses, []
            return taken

        workers: Any = SimpleNamespace(root=self.root, take_losses=take_losses)
        watch = Watch(self.screen, self.folder.path, Progress("a"), EventReader(self.folder.events))
        return RunningAttempt(
            self.folder, workers, watch, self.log, self.stop, grace_s, self.screen, verbose=True
        ).follow()

    def ends_with(self, code: int, *events: Any) -> None:
        def work(_: Any) -> int:
            for event in events:
                self.log.write(event)
            return code

        self.root.work = work  # type: ignore[method-assign, assignment]

    @property
    def events(self) -> list[Any]:
        return [entry.event for entry in read_events(self.folder.events)]


def test_the_code_is_that_of_the_last_event(attempt: AttemptOfTest) -> None:
    attempt.ends_with(0, Ended("finished", 4, "broken"))
    assert attempt.follow() == 4


def test_a_root_that_dies_gets_a_last_event_and_its_last_words_are_shown(
    attempt: AttemptOfTest,
) -> None:
    attempt.ends_with(1)
    assert attempt.follow() == Exit.BUG
    assert attempt.events[-1].outcome == "failed"
    assert attempt.events[-1].finding.cause == Cause.BUG
    assert attempt.screen.said == ["ValueError: broken"]


def test_what_happened_to_other_workers_is_logged(attempt: AttemptOfTest) -> None:
    lost = Finding("warning", "worker 2 of 4 was killed", cause=Cause.WORKER_LOST)
    attempt.losses = [lost]
    attempt.ends_with(5, Ended("failed", 5, "worker 2 is gone"))
    assert attempt.follow() == 5
    assert Noted(lost) in attempt.events


def test_a_stop_is_forwarded_once(attempt: AttemptOfTest) -> None:
    attempt.stop.ask("SIGTERM", Exit.COME_BACK)
    attempt.ends_with(75, Ended("interrupted", 75, "stopped"))
    assert attempt.follow() == 75
    assert attempt.root.signals == [signal.SIGTERM]
    assert sum(isinstance(event, StopAsked) for event in attempt.events) == 1


@pytest.mark.timeout(20)
def test_a_root_that_outlasts_the_grace_period_is_killed(attempt: AttemptOfTest) -> None:
    attempt.stop.ask("SIGTERM", Exit.COME_BACK)
    attempt.root.work = lambda _: None  # type: ignore[method-assign, assignment, return-value]
    assert attempt.follow(grace_s=0.0) == 75
    assert signal.SIGKILL in attempt.root.signals
    assert "did not save within" in attempt.events[-1].line


def test_an_unreadable_receipt_is_none(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text("{")
    assert newest_receipt(RunFolder(tmp_path)) is None
