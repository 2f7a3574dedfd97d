"""An attempt followed to its last event: stops, losses, and roots that die or hang."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.supervise.test_supervisor import Child, Screen
from tests.ui.fixtures import step_done

from headway.base.errors import Cause, Exit, Finding
from headway.base.events import (
    AttemptStarted,
    Ended,
    Event,
    EventLog,
    EventReader,
    Noted,
    Stalled,
    StallEnded,
    StopAsked,
    read_events,
)
from headway.base.process import Stop
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.runs.folder import RunFolder
from headway.supervise.attempts import running_attempt
from headway.supervise.attempts.restart import LostWorkers
from headway.supervise.attempts.running_attempt import RunningAttempt, newest_receipt
from headway.supervise.progress import Progress
from headway.supervise.stalls.due import Due
from headway.supervise.stalls.policy import Act
from headway.supervise.stalls.silence import StuckWorker
from headway.supervise.watch import Watch


class Root(Child):
    """A root that takes `looks` looks, then logs what a test says and ends."""

    started: list[Child] = []  # noqa: RUF012 - not used here


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "AttemptOfTest":
    monkeypatch.setattr("headway.supervise.watch.POLL_S", 0.0)
    monkeypatch.setattr("headway.supervise.attempts.running_attempt._EXIT_S", 0.02)
    return AttemptOfTest(tmp_path)


class Stalls:
    """Stalls as a test says."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ending: Due | None = None
        self.last_due: Due | None = None
        self.is_closed = False

    def take_events(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def close(self) -> None:
        self.is_closed = True


class AttemptOfTest:
    """An attempt with a root that does what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.screen, self.stop = RunFolder(folder), Screen(), Stop()
        self.log = EventLog(self.folder.events, 1, began_s=0.0)
        self.losses: list[Finding] = []
        self.stalls = Stalls()
        self.root = Root("headway.training.worker", ["-"])
        self.loss: LostWorkers | None = None

    def follow(self, grace_s: float = 10.0, why_no_restart: str = "") -> int:
        def take_losses(_: float | None) -> list[Finding]:
            taken, self.losses = self.losses, []
            return taken

        both = [self.root, self.root]
        workers: Any = SimpleNamespace(
            root=self.root, processes=both, take_losses=take_losses, stalls=self.stalls
        )
        watch = Watch(self.screen, self.folder.path, Progress("a"), EventReader(self.folder.events))
        attempt = RunningAttempt(
            self.folder, workers, watch, self.log, self.stop, grace_s, self.screen, verbose=True
        )
        self.loss = attempt.follow()
        return attempt.close(why_no_restart)

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


KILLED = Finding("warning", "worker 2 of 4 was killed", cause=Cause.PROCESS_KILLED)
BROKEN = Finding("warning", "worker 2 of 4 failed: ImportError", cause=Cause.BUG)
LOST = Ended("failed", 5, "broken", Finding("refused", "worker 2 is gone", cause=Cause.WORKER_LOST))
FULL = Ended("failed", 5, "broken", Finding("refused", "no room", cause=Cause.DISK_FULL))


def test_a_lost_worker_can_be_made_good(attempt: AttemptOfTest) -> None:
    attempt.losses = [KILLED]
    attempt.ends_with(5, step_done(3), LOST)
    assert attempt.follow() == 5
    assert attempt.loss == LostWorkers(KILLED, finished_step=3)


def test_a_killed_root_can_be_made_good(attempt: AttemptOfTest) -> None:
    attempt.ends_with(-signal.SIGKILL, step_done(1))
    assert attempt.follow() == 5
    assert attempt.loss is not None
    assert attempt.loss.finding.what.endswith("(worker 0 of 2) was killed by SIGKILL")


@pytest.mark.parametrize(
    ("losses", "code", "events"),
    [
        ([], 0, [Ended("finished", 0, "kept")]),
        ([], 5, [FULL]),
        ([BROKEN], 5, [LOST]),  # new ones would fail as well
        ([KILLED, BROKEN], 5, [LOST]),
        ([], 1, []),
        ([KILLED], 1, []),
    ],
)
def test_nothing_else_is_made_good_by_new_workers(
    attempt: AttemptOfTest, losses: list[Finding], code: int, events: list[Any]
) -> None:
    attempt.losses = losses
    attempt.ends_with(code, *events)
    attempt.follow()
    assert attempt.loss is None


def test_f54_the_out_of_memory_killer_is_noticed(
    attempt: AttemptOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr(running_attempt, "count_oom_kills", lambda: next(counts))
    attempt.ends_with(-signal.SIGKILL)
    attempt.follow()
    assert attempt.loss is not None
    assert attempt.loss.out_of_memory


def test_why_there_is_no_restart_is_told(attempt: AttemptOfTest) -> None:
    attempt.losses = [KILLED]
    attempt.ends_with(5, LOST)
    assert attempt.follow(why_no_restart="no new step") == 5
    why = Noted(Finding("warning", "no restart: no new step"))
    assert why in attempt.events
    assert why in attempt.screen.events


@pytest.mark.parametrize("events", [[step_done(3)], [step_done(3), LOST]])
def test_a_stop_beats_the_loss_that_came_with_it(attempt: AttemptOfTest, events: list[Any]) -> None:
    (attempt.folder.path / "receipt.json").write_text("of a failure")
    attempt.losses = [KILLED]
    attempt.stop.ask("SIGTERM", Exit.COME_BACK)
    attempt.ends_with(-signal.SIGKILL, *events)
    assert attempt.follow() == 75
    last = attempt.events[-1]
    assert (last.outcome, last.exit_code) == ("interrupted", 75)
    assert last.line.startswith("stopped by SIGTERM: worker 2 of 4 was killed · nothing was saved")
    assert not (attempt.folder.path / "receipt.json").exists()


def test_the_last_event_of_the_attempt_before_is_not_this_ones(attempt: AttemptOfTest) -> None:
    attempt.log.write(LOST)
    attempt.log.write(AttemptStarted("a", "1", 1, 0, "", 1, "worker 2 was killed"))
    attempt.ends_with(0, Ended("finished", 0, "kept"))
    assert attempt.follow() == 0
    assert signal.SIGKILL not in attempt.root.signals


# -- stalls ------------------------------------------------------------------------------------

DEADLOCK = Diagnosis(
    StallCause.DEADLOCK, Finding("warning", "it waits for itself"), Helps.RESTART, 7, Exit.BROKEN
)


def due(act: Act) -> Due:
    return Due(StuckWorker(0, 61.0), act, DEADLOCK)


def test_stalls_are_logged_and_the_watch_is_closed(attempt: AttemptOfTest) -> None:
    began = Stalled(1, "the trainer", "deadlock", 12.0, "training", DEADLOCK.finding, "")
    attempt.stalls.events = [began, StallEnded(1, "deadlock", 14.0, "itself")]
    attempt.ends_with(0, Ended("finished", 0, "kept"))
    assert attempt.follow() == 0
    assert attempt.events[:2] == [began, StallEnded(1, "deadlock", 14.0, "itself")]
    assert attempt.stalls.is_closed


def test_a_stall_that_ends_the_run_asks_for_a_save_and_gives_its_code(
    attempt: AttemptOfTest,
) -> None:
    attempt.stalls.ending = due(Act.STOP)
    attempt.ends_with(75, step_done(3), Ended("interrupted", 75, "kept so far"))
    assert attempt.follow() == Exit.BROKEN
    assert attempt.root.signals == [signal.SIGCONT, signal.SIGTERM]
    assert StopAsked("a stall", "starting") in attempt.events
    last = attempt.events[-1]
    assert (last.outcome, last.exit_code, last.line) == ("interrupted", 4, "kept so far")
    assert last.finding == due(Act.STOP).finding
    assert attempt.screen.refusals[0].what == "it waits for itself"


@pytest.mark.timeout(20)
def test_one_that_cannot_save_any_more_is_killed(attempt: AttemptOfTest) -> None:
    attempt.stalls.ending = due(Act.STOP)
    attempt.root.work = lambda _: None  # type: ignore[method-assign, assignment, return-value]
    assert attempt.follow(grace_s=0.0) == Exit.BROKEN
    assert signal.SIGKILL in attempt.root.signals
    last = attempt.events[-1]
    assert last.line.startswith("stopped by a stall: the trainer did not save within")
    assert last.finding.what == "it waits for itself"
    assert attempt.screen.refusals[0].have == "no progress for 1 min 1 s"


def test_a_run_that_finished_after_all_is_finished(attempt: AttemptOfTest) -> None:
    attempt.stalls.ending = due(Act.STOP)
    attempt.ends_with(0, Ended("finished", 0, "kept"))
    assert attempt.follow() == 0
    assert attempt.events[-1].finding is None


def test_without_a_restart_left_the_run_ends_with_the_cause(attempt: AttemptOfTest) -> None:
    attempt.losses = [Finding("warning", "the trainer is stuck", cause=Cause.WORKER_LOST)]
    attempt.stalls.last_due = due(Act.RESTART)
    attempt.ends_with(-signal.SIGKILL)
    assert attempt.follow(why_no_restart="no new step") == Exit.BROKEN
    last = attempt.events[-1]
    assert (last.outcome, last.exit_code) == ("failed", 4)
    assert last.finding.what == "it waits for itself"
    assert attempt.screen.refusals[0].what == "it waits for itself"


def test_an_unreadable_receipt_is_none(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text("{")
    assert newest_receipt(RunFolder(tmp_path)) is None
