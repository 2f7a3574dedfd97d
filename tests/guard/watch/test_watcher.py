"""The watcher's decisions over time: a clock, an output and a close look that the test makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headway.base.errors import Finding
from headway.base.events import Noted, StepPrinted, read_events
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.guard.facts import ProgressRecord, SeenStall
from headway.guard.output_lines import OutputLines
from headway.guard.run_record import RunRecord
from headway.guard.watch.activity import Counters, TreeActivity
from headway.guard.watch.rhythm import Rhythm
from headway.guard.watch.stall import Look
from headway.guard.watch.watcher import Watcher, WatchListener
from headway.supervise.live.live_jobs import find_status

DEADLOCK = Diagnosis(
    StallCause.DEADLOCK, Finding("warning", "a deadlock", "two locks", "one order"), Helps.RESTART
)
COMPUTING = Diagnosis(StallCause.COMPUTING, Finding("ok", "it computes"), Helps.PATIENCE)
SLEEPS = Diagnosis(StallCause.SLEEPING, Finding("warning", "it sleeps"), Helps.PATIENCE)


@dataclass
class Shown:
    """Stands for an outlet."""

    lines: list[str] = field(default_factory=list[str])
    on_terminal: bool = False

    def show(self, text: str) -> bool:
        self.lines.append(text)
        return True

    def say(self, lines: Sequence[str], *, last: bool = False) -> None:
        assert not last
        self.lines += lines


@dataclass
class Stage:
    """A watcher whose time passes in steps of half a second."""

    folder: Path
    diagnosis: Diagnosis = DEADLOCK
    stall_after_s: float = 0.0
    cores: float = 0.0
    now_s: float = 1000.0
    looks: int = 0
    stalled: list[SeenStall] = field(default_factory=list[SeenStall])
    ended: list[Diagnosis] = field(default_factory=list[Diagnosis])
    blocked: bool = False
    step: int = 0

    def __post_init__(self) -> None:
        self.shown = Shown()
        self.lines = OutputLines(lambda: self.now_s)
        self.record = RunRecord.open("run", ("x",), self.folder)
        listener = WatchListener(
            lambda stall, _: self.stalled.append(stall),
            self.ended.append,
            lambda finding: [f"! {finding.what}"],
        )
        self.watcher = Watcher(
            self.lines,
            2**22 + 1,  # nobody
            self.record,
            self.shown,  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            Rhythm(self.stall_after_s),
            listener,
            is_blocked=lambda: self.blocked,
            look=self._look,
            clock=lambda: self.now_s,
        )
        self.lines.on_record = self.watcher.take
        self.watcher.attempt_began()

    def _look(self, *_: object) -> Look:
        self.looks += 1
        return Look(self.diagnosis, "all stacks")

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.5
            self.watcher.tick(self.now_s)

    def print_steps(self, num: int, every_s: float = 1.0) -> None:
        for _ in range(num):
            self.lines.feed(b"step %d loss 2.5\n" % self.step)
            self.step += 1
            self.pass_time(every_s)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path)

    def activity(*_: object) -> TreeActivity:
        return TreeActivity(1.0, cores=made.cores)

    monkeypatch.setattr("headway.guard.watch.watcher.activity_between", activity)
    monkeypatch.setattr(made.watcher._over, "wait", lambda seconds: _pass(made, seconds))
    return made


def _pass(stage: Stage, seconds: float) -> bool:
    stage.now_s += seconds
    return False


def test_a_command_that_prints_is_left_alone(stage: Stage) -> None:
    stage.print_steps(1000)
    assert stage.shown.lines == []
    assert stage.looks == 0


def test_silence_is_explained_within_five_seconds(stage: Stage) -> None:
    stage.cores = 1.9
    stage.lines.feed(b"dataset loaded\n")
    stage.pass_time(5)
    assert stage.shown.lines[0].startswith("headway: no output for 3 s: computing (1.9 cores")


def test_status_says_since_when_it_is_silent(stage: Stage) -> None:
    stage.print_steps(5)
    stage.pass_time(30)
    status = find_status("run", stage.folder)
    assert (status.state, status.step, status.waiting_for) == ("training", 4, "output")


def test_what_was_done_before_a_silence_is_not_told_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def activity(before: Counters, after: Counters) -> TreeActivity:
        seen.append(before.at_s)
        return TreeActivity(1.0)

    monkeypatch.setattr("headway.guard.watch.watcher.activity_between", activity)
    stage.print_steps(5)
    printed_s = stage.now_s
    stage.lines.feed(b"now it is silent\n")
    stage.pass_time(2.5)
    seen.clear()
    stage.pass_time(1)
    assert len(stage.shown.lines) == 1
    assert min(seen) >= printed_s


def test_what_was_seen_too_late_is_not_said(stage: Stage) -> None:
    def look(*_: object) -> Look:
        stage.now_s += 1.5
        stage.lines.feed(b"here I am\n")
        return Look(COMPUTING, "all stacks")

    stage.watcher.look = look
    stage.shown.on_terminal = True
    stage.lines.feed(b"dataset loaded\n")
    stage.pass_time(5)
    assert stage.shown.lines == [f"headway: no output for {s} s: waiting" for s in (3, 4)]


def test_what_computes_is_no_stall_however_long(stage: Stage) -> None:
    stage.cores, stage.diagnosis = 1.0, COMPUTING
    stage.print_steps(20)
    stage.pass_time(3600)
    assert stage.stalled == []
    assert not any(line.startswith("!") for line in stage.shown.lines)


def test_an_idle_command_is_a_stall_when_patience_is_over(stage: Stage) -> None:
    stage.print_steps(20)
    stage.pass_time(16)
    assert stage.stalled == []
    stage.pass_time(4)
    (stall,) = stage.stalled
    assert stall.cause == StallCause.DEADLOCK
    assert 20.0 <= stall.silent_s <= 21.0
    assert stage.shown.lines[-3:-1] == ["headway: no progress for 20 s", "! a deadlock"]
    assert Path(stall.evidence).read_text() == "all stacks"
    assert Path(stall.evidence).name == "stall-1.txt"


def test_patience_can_be_asked_for(stage: Stage) -> None:
    stage.watcher.rhythm.stall_after_s = 6.0
    stage.lines.feed(b"hello\n")
    stage.pass_time(7)
    assert len(stage.stalled) == 1
    assert stage.stalled[0].silent_s <= 6.5, "within half a second"


def test_a_stall_is_told_once_and_its_end_too(stage: Stage) -> None:
    stage.print_steps(20)
    stage.pass_time(100)
    assert len(stage.stalled) == 1
    stage.print_steps(3)
    assert stage.shown.lines[-1].startswith("headway: moving again after ")
    assert stage.watcher.stalls[0].lasted_s >= 100
    stage.pass_time(100)
    assert len(stage.stalled) == 2, "another one"


def test_a_cause_that_ends_by_itself_is_told_and_is_no_stall(stage: Stage) -> None:
    stage.diagnosis = SLEEPS
    stage.print_steps(20)
    stage.pass_time(60)
    assert stage.stalled == []
    assert stage.shown.lines.count("! it sleeps") == 1


def test_a_redrawn_bar_does_not_hide_a_stall(stage: Stage) -> None:
    stage.print_steps(20)
    for second in range(60):
        stage.lines.feed(b"\r 45%%|###  | 45/100 [00:%02d<00:15, 3.6it/s]" % second)
        stage.pass_time(1)
    assert len(stage.stalled) == 1


def test_a_stall_is_acted_upon_late_and_once(stage: Stage) -> None:
    stage.print_steps(20)
    stage.pass_time(200)
    assert stage.ended == [], "noticed early"
    stage.pass_time(400)
    assert stage.ended == [DEADLOCK]


def test_what_only_a_person_can_end_is_not_acted_upon(stage: Stage) -> None:
    full = Finding("warning", "the disk is full")
    stage.diagnosis = Diagnosis(StallCause.DISK_FULL, full, Helps.PERSON)
    stage.print_steps(20)
    stage.pass_time(2000)
    assert len(stage.stalled) == 1
    assert stage.ended == []


def test_time_in_which_all_was_stopped_is_no_silence(stage: Stage) -> None:
    stage.print_steps(20)
    stage.now_s += 3600  # as after Ctrl+Z, or a laptop that slept
    stage.watcher.paused(3600)
    stage.pass_time(10)
    assert stage.stalled == []


def test_a_reader_that_takes_nothing_is_no_stall(stage: Stage) -> None:
    stage.print_steps(20)
    stage.blocked = True
    stage.pass_time(600)
    assert stage.stalled == []


def test_a_look_that_fails_does_no_harm(stage: Stage) -> None:
    def fail(*_: object) -> Look:
        raise RuntimeError("no")

    stage.watcher.look = fail
    stage.print_steps(20)
    stage.pass_time(100)
    assert stage.stalled == []
    assert any("cannot examine the command" in line for line in stage.shown.lines)


def test_steps_are_logged_and_stalls_noted(stage: Stage) -> None:
    stage.print_steps(20)
    stage.pass_time(100)
    assert stage.record.folder
    events = [entry.event for entry in read_events(stage.record.folder / "events.jsonl")]
    printed = [event for event in events if isinstance(event, StepPrinted)]
    assert printed[-1] == StepPrinted(19, None, None, 2.5, None)
    assert [event.finding.what for event in events if isinstance(event, Noted)] == ["a deadlock"]


def test_evaluation_is_no_step(stage: Stage) -> None:
    stage.watcher.take(ProgressRecord(1.0, step=5, total=9, loss=2.0))
    stage.watcher.take(ProgressRecord(2.0, step=90, total=99, is_bar=True, is_evaluation=True))
    stage.watcher.take(ProgressRecord(3.0, step=70, total=80, is_bar=True, what="Map"))
    stage.watcher.take(ProgressRecord(4.0, loss=1.5))
    latest = stage.watcher.latest
    assert (latest.step, latest.total, latest.loss) == (5, 9, 1.5)
