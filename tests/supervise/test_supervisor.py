"""Starting, placing and stopping, with stand-ins for the planner and the trainer."""

import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.helpers import settings
from tests.runs.folders import planned
from tests.ui.fixtures import conversations_plan, receipt, step_done

from headway.base.errors import (
    BrokenContract,
    Cause,
    ComeBack,
    DataRefused,
    Exit,
    Finding,
    OurBug,
    Refusal,
    UsageError,
    message_of,
)
from headway.base.events import Ended, Event, EventLog, Noted, StopAsked, read_events
from headway.base.lock import RunLock, is_held
from headway.base.process import Stop
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import load_settled
from headway.supervise import supervisor as supervising
from headway.supervise.attempts import workers
from headway.supervise.planner import PlanRequest
from headway.supervise.supervisor import Request, Supervisor

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Screen:
    """Keeps what it is told."""

    max_silence = 0.0

    def __init__(self) -> None:
        self.said: list[str] = []
        self.refusals: list[Any] = []
        self.events: list[Any] = []
        self.closed = False

    def say(self, line: str) -> None:
        self.said.append(line)

    def event(self, entry: Any) -> None:
        self.events.append(entry.event)

    def refusal(self, refusal: Any) -> None:
        self.refusals.append(refusal)

    def status(self, _: Any) -> None: ...
    def plan(self, _: Any) -> None: ...
    def receipt(self, _: Any) -> None: ...

    def close(self, patience_s: float = 30.0) -> None:
        self.closed = True


class Child:
    """A process that does its work the first time it is looked at, and ends."""

    started: list["Child"]
    pid = 2**22 - 5  # nobody's

    def __init__(self, module: str, arguments: list[str], **options: Any) -> None:
        self.module, self.arguments, self.options = module, arguments, options
        self.exit_code: int | None = None
        self.signals: list[signal.Signals] = []
        self.sent: list[Any] = []
        self.sent_back: object = None
        self.ended = False
        self.looks = 0
        self.started.append(self)

    @property
    def is_running(self) -> bool:
        self.looks += 1
        if self.looks > 2 and self.exit_code is None:
            self.exit_code = self.work(self)
        return self.exit_code is None

    work = staticmethod(lambda _: 0)

    def wait_up_to(self, limit_s: float) -> None:
        time.sleep(limit_s)

    def send(self, message: object) -> None:
        self.sent.append(message)
        if self.on_go:
            self.on_go()

    on_go: Any = None

    def send_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.exit_code = -signal.SIGKILL

    def end(self) -> None:
        self.ended = True

    def last_words(self) -> list[str]:
        return ["ValueError: broken"]

    def answer(self, kind: type[Any]) -> Any:
        return self.sent_back if isinstance(self.sent_back, kind) else None

    def last_refusal(self) -> Any:
        return message_of(self.sent_back) if isinstance(self.sent_back, Refusal) else None


@pytest.fixture
def job(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> "JobOfTest":
    monkeypatch.setattr("headway.supervise.watch.POLL_S", 0.0)
    return JobOfTest(tmp_path, monkeypatch)


class JobOfTest:
    """A supervisor whose planner and worker do what a test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs, self.screen, self.stop = folder / "runs", Screen(), Stop()
        self.children: list[Child] = []
        self.answer: Plan | Refusal | None = conversations_plan()
        self.events: list[Event] = []
        self.worker_code = 0
        self.meanwhile: list[int] = []  # messages that the trainer had by then
        test = self

        class Standin(Child):
            started = test.children

            @staticmethod
            def work(child: Any) -> int:
                return test.plan(child) if "planner" in child.module else test.train(child)

        self.standin = Standin
        monkeypatch.setattr(supervising, "ChildProcess", Standin)
        monkeypatch.setattr(workers, "ChildProcess", Standin)
        self.supervisor = self.another()

    def another(self) -> Supervisor:
        """A supervisor of the same command."""
        request = Request(("a.jsonl",), settings(output_dir=str(self.runs)), ("headway",), True)
        screen: Any = self.screen

        def note() -> None:
            self.meanwhile.append(len(self.children[0].sent))

        return Supervisor(request, screen, self.stop, meanwhile=note)

    def stop_at_go(self, by: signal.Signals | None) -> None:
        """Stop as soon as the trainer has its plan."""

        def ask() -> None:
            code = Stop.CODES[by] if by else Exit.COME_BACK
            self.stop.ask(by.name if by else "an inbox", code)
            self.stop.signal = by

        self.standin.on_go = staticmethod(ask)

    def plan(self, child: Child) -> int:
        child.sent_back = self.answer
        return 0

    def train(self, child: Child) -> int:
        assert isinstance(self.answer, Plan)
        log = EventLog(self.runs / self.answer.name / "events.jsonl", 1, rank=0)
        for event in self.events:
            log.write(event)
        return self.worker_code

    def assert_clean(self) -> None:
        assert all(child.ended for child in self.children)
        assert not self.supervisor.live.exists()


def test_a_plan_comes_back_and_nothing_is_left(job: JobOfTest) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    result = job.supervisor.plan()
    assert result.plan is not None
    assert (result.code, result.plan.identity) == (Exit.KEPT, conversations_plan().identity)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert [child.module for child in job.children] == ["headway.supervise.planner"]
    job.assert_clean()


def test_a_saved_plan_is_a_run_that_nobody_has_started(job: JobOfTest) -> None:
    result = job.supervisor.save()
    folder = RunFolder(job.runs / "support-b")
    assert (result.code, result.folder) == (Exit.KEPT, folder.path)
    assert [saved.identity for saved in (folder.plan(), result.plan) if saved] == 2 * [
        conversations_plan().identity
    ]
    assert {path.name for path in folder.path.iterdir()} == {"plan.json", "run.yaml", "run.lock"}
    assert not is_held(folder.lock)
    assert [child.module for child in job.children] == ["headway.supervise.planner"]
    job.assert_clean()


def test_a_saved_plan_is_found_by_the_next_start(job: JobOfTest) -> None:
    job.answer = planned()
    job.supervisor.save()
    job.events = [Ended("interrupted", 75, "stopped before the first step")]
    result = job.another().train()
    assert (result.code, result.folder) == (75, job.runs / "notes")
    assert [path.name for path in job.runs.iterdir()] == ["notes"]


def test_a_plan_that_is_saved_again_keeps_the_first_and_settles_where_its_data_is(
    job: JobOfTest,
) -> None:
    job.answer = first = planned()
    job.supervisor.save()
    job.answer = replace(first, version="9", data=replace(first.data, store="/elsewhere"))
    result = job.another().save()
    folder = RunFolder(job.runs / "notes")
    assert [one.version for one in (folder.plan(), result.plan) if one] == [first.version] * 2
    assert load_settled(folder.path, first).store == "/elsewhere"


def test_a_plan_is_not_saved_over_a_run_in_progress(job: JobOfTest) -> None:
    job.answer = planned()
    job.supervisor.save()
    with (
        RunLock(job.runs / "notes" / "run.lock"),
        pytest.raises(ComeBack, match="already being trained"),
    ):
        job.another().save()


def test_the_plan_of_a_finished_run_is_not_saved_again(job: JobOfTest) -> None:
    finished = replace(receipt(), outcome="finished", plan=conversations_plan().identity)
    job.supervisor.save()
    finished.save(job.runs / "support-b")
    result = job.another().save()
    assert result.receipt == finished
    assert job.screen.said[-1] == "already trained, 0 new steps"


def test_a_launcher_that_plans_several_times_is_refused(
    job: JobOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="torchrun started this command 2 times"):
        job.supervisor.save()
    assert not job.runs.exists()


def test_a_refused_plan_is_the_refusal(job: JobOfTest) -> None:
    job.answer = DataRefused("too little", cause=Cause.TOO_LITTLE_DATA)
    with pytest.raises(DataRefused, match="too little") as refused:
        job.supervisor.train()
    assert refused.value.cause is Cause.TOO_LITTLE_DATA
    assert job.meanwhile == []
    job.assert_clean()


def test_a_planner_that_has_read_ahead_is_taken(job: JobOfTest) -> None:
    places: list[Path] = []

    def ahead(request: Path, pulse: Path) -> Any:
        assert msgspec.json.decode(request.read_bytes(), type=PlanRequest).sources == ("a.jsonl",)
        places.append(pulse)
        return job.standin("a planner", [])

    given: Any = job.screen
    request = Request(("a.jsonl",), settings(output_dir=str(job.runs)), ("headway",))
    result = Supervisor(request, given, job.stop, planner_ahead=ahead).plan()
    assert result.plan == job.answer
    assert [child.module for child in job.children] == ["a planner"]
    assert places == [places[0].with_name("planner.pulse")]
    assert job.children[0].ended


@pytest.mark.parametrize("is_there", [True, False])
def test_a_worker_that_is_warm_loads_what_is_continued_while_it_is_planned(
    job: JobOfTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    parent = tmp_path / "parent"
    (parent / "checkpoint-4").mkdir(parents=True)
    (parent / "plan.json").write_text("{}")
    if is_there:
        (parent / "model").symlink_to("checkpoint-4")
    job.answer = DataRefused("too little", cause=Cause.TOO_LITTLE_DATA)
    monkeypatch.setattr(supervising, "with_parent_settings", lambda given, _: given)
    given: Any = job.screen
    asked = settings(output_dir=str(job.runs), continue_run=str(parent), nproc=1)
    warm: Any = SimpleNamespace(is_ready=True, worker=None, planner=None)
    supervisor = Supervisor(Request(("a.jsonl",), asked, ()), given, job.stop, warm)
    with pytest.raises(DataRefused):
        supervisor.train()
    worker = job.children[0]
    early = ["--early", str((parent / "checkpoint-4").resolve())]
    assert worker.arguments == ["-", *(early if is_there else [])]


def test_a_planner_without_an_answer_is_a_bug(job: JobOfTest) -> None:
    job.answer = None
    with pytest.raises(OurBug, match="planning failed"):
        job.supervisor.plan()
    job.assert_clean()


def test_whoever_sets_the_stop_ends_planning(job: JobOfTest) -> None:
    job.stop.ask("a test", Exit.COME_BACK)
    result = job.supervisor.train()
    assert (result.code, result.plan) == (Exit.COME_BACK, None)
    (said,) = job.screen.said
    assert said.startswith("a test: stopped before step 1, nothing was written")
    assert said.endswith("the same command starts it again")
    assert not job.runs.exists()
    job.assert_clean()


def test_the_worker_gets_its_folder_and_its_last_event_is_the_exit_code(job: JobOfTest) -> None:
    job.events = [Ended("interrupted", 75, "stopped before the first step")]
    result = job.supervisor.train()
    assert (result.code, result.folder) == (75, job.runs / "support-b")
    worker = job.children[0]
    (go,) = worker.sent
    assert (go.run, go.attempt) == (str((job.runs / "support-b").resolve()), 1)
    assert job.meanwhile == [1]
    assert worker.options["environment"]["HF_HUB_OFFLINE"] == "1"
    assert job.screen.said[-1] == "stopped before the first step"
    job.assert_clean()


def test_the_finding_of_the_last_event_is_shown_as_the_refusal_it_was(job: JobOfTest) -> None:
    finding = ComeBack("later", cause=Cause.LOCKED).finding()
    job.events = [Ended("failed", 75, "later", finding)]
    assert job.supervisor.train().code == 75
    (shown,) = job.screen.refusals
    assert (type(shown), shown.what, shown.cause) == (ComeBack, "later", Cause.LOCKED)


def test_a_worker_that_dies_gets_a_last_event(job: JobOfTest) -> None:
    job.worker_code = 1
    assert job.supervisor.train().code == Exit.BUG
    last = read_events(job.runs / "support-b" / "events.jsonl")[-1].event
    assert isinstance(last, Ended)
    assert (last.outcome, last.exit_code) == ("failed", 1)
    assert "ValueError: broken" in job.screen.said  # asked to be verbose
    assert [type(refusal) for refusal in job.screen.refusals] == [OurBug]
    job.assert_clean()


def test_a_log_that_is_deleted_is_told_once_in_the_new_one(job: JobOfTest) -> None:
    log = job.runs / "support-b" / "events.jsonl"
    job.events = [Ended("finished", 0, "kept")]

    class Deleting(Child):
        """A worker during whose run the log is deleted."""

        looks_at_log = 0

        @property
        def is_running(self) -> bool:
            if log.exists():
                self.looks_at_log += 1
                if self.looks_at_log == 2:
                    log.unlink()
            return super().is_running

    standin = workers.ChildProcess
    parts = {"started": job.children, "work": staticmethod(standin.work)}
    make: Any = type("Standin", (Deleting,), parts)
    workers.ChildProcess = make
    assert job.supervisor.train().code == 0
    events = [entry.event for entry in read_events(log)]
    noted = [event.finding.cause for event in events if isinstance(event, Noted)]
    assert noted == [Cause.LOG_DELETED]


@pytest.mark.parametrize("by", [signal.SIGUSR1, None])
def test_a_stop_is_forwarded_once(job: JobOfTest, by: signal.Signals | None) -> None:
    job.stop_at_go(by)
    job.events = [Ended("interrupted", 75, "stopped")]
    assert job.supervisor.train().code == 75
    assert job.children[0].signals == [by or signal.SIGTERM]
    events = [e.event for e in read_events(job.runs / "support-b" / "events.jsonl")]
    assert sum(isinstance(event, StopAsked) for event in events) == 1


class Hangs(JobOfTest):
    """A supervisor whose worker never ends by itself."""

    def train(self, child: Child) -> Any:
        if child.looks == 3:
            super().train(child)
        return None


@pytest.fixture
def hanging(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Hangs:
    monkeypatch.setattr("headway.supervise.watch.POLL_S", 0.0)
    monkeypatch.setattr("headway.supervise.attempts.running_attempt._EXIT_S", 0.02)
    return Hangs(tmp_path, monkeypatch)


@pytest.mark.timeout(20)
def test_a_worker_that_hangs_after_its_last_event_is_killed_and_its_outcome_stays(
    hanging: Hangs,
) -> None:
    hanging.events = [Ended("finished", 0, "kept: 3 of 3 steps")]
    assert hanging.supervisor.train().code == Exit.KEPT
    assert hanging.children[0].signals == [signal.SIGKILL]
    assert hanging.screen.refusals == []
    hanging.assert_clean()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_outlasts_the_grace_period_is_killed(
    hanging: Hangs, by: signal.Signals
) -> None:
    hanging.answer = replace(conversations_plan(), grace_s=0.05)
    hanging.events = [step_done(1, first=2488), step_done(2, first=2488)]
    hanging.stop_at_go(by)
    hanging.stop.code = Stop.CODES[by]
    assert hanging.supervisor.train().code == Stop.CODES[by]
    assert hanging.children[0].signals == [by, signal.SIGKILL]
    last = read_events(hanging.runs / "support-b" / "events.jsonl")[-1].event
    assert isinstance(last, Ended)
    assert (last.outcome, last.exit_code) == ("interrupted", Stop.CODES[by])
    assert hanging.screen.said[-1] == last.line
    assert "nothing was saved, 2 steps lost" in last.line
    assert last.line.endswith("the same command starts it again")
    hanging.assert_clean()


def test_before_it_leaves_at_once_it_kills_and_cleans(job: JobOfTest) -> None:
    job.supervisor._start("m", [], name="m", environment={}, stdin=None)
    job.supervisor._abandon()
    assert job.children[0].signals == [signal.SIGKILL]
    assert job.screen.closed
    assert not job.supervisor.live.exists()


def test_a_run_that_a_stall_stopped_says_why(job: JobOfTest) -> None:
    finding = Finding("refused", "it waits for itself", cause=Cause.STALLED)
    job.events = [Ended("interrupted", 4, "kept so far", finding)]
    result = job.supervisor.train()
    assert result.code == Exit.BROKEN
    assert isinstance(result.stopped_for, BrokenContract)
    assert result.stopped_for.what == "it waits for itself"


def test_a_run_that_failed_or_was_asked_to_stop_was_stopped_for_nothing_else(
    job: JobOfTest,
) -> None:
    job.events = [Ended("failed", 5, "no room", Finding("refused", "no room"))]
    assert job.supervisor.train().stopped_for is None
