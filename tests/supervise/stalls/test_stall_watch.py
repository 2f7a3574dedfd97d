"""Stalls from the first silence to the last word; the clock and the diagnoses are the test's."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ui.fixtures import pulse

from headway.base.errors import Finding
from headway.base.events import Event, EventLog, Stalled, StallEnded
from headway.base.pulse import Phase, Pulse, PulseReading, ReaderWait
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.supervise.stalls import hold, stall_watch
from headway.supervise.stalls.due import StallRules
from headway.supervise.stalls.explainer import Explainer, Explanation, Question
from headway.supervise.stalls.hold import Hold, Holds
from headway.supervise.stalls.note import read_note
from headway.supervise.stalls.policy import Act
from headway.supervise.stalls.stall_watch import StallWatch

DEADLOCK = Diagnosis(StallCause.DEADLOCK, Finding("warning", "waits for itself"), Helps.RESTART)
SLOW = Diagnosis(StallCause.SLOW_SOURCE, Finding("warning", "a slow source"), Helps.PATIENCE)
FULL = Diagnosis(StallCause.DISK_FULL, Finding("warning", "a full disk"), Helps.PERSON)
STOPPED = Diagnosis(StallCause.STOPPED, Finding("warning", "it is stopped"), Helps.PERSON)
SLEEPING = Diagnosis(StallCause.SLEEPING, Finding("warning", "it sleeps"), Helps.RESTART)
NETWORK = Diagnosis(StallCause.NETWORK, Finding("warning", "no answer"), Helps.PERSON)
HEALTHY = Diagnosis(StallCause.HEALTHY, Finding("ok", "it gets on"), Helps.PATIENCE)
COMPUTING = Diagnosis(StallCause.COMPUTING, Finding("warning", "computes"), Helps.PATIENCE)


class Known(Explainer):
    """Says what a test says, at the next look."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__()
        self.diagnosis, self.questions = diagnosis, list[Question]()
        self.is_silent = False

    def ask(self, question: Question) -> None:
        self.questions.append(question)
        self._is_busy = True
        if not self.is_silent:
            self._answers.put(
                Explanation(self.diagnosis, question.file.name if question.file else "")
            )


class Job:
    """A job whose processes show what a test says, second by second."""

    def __init__(
        self, live: Path, diagnosis: Diagnosis = DEADLOCK, *, team: int = 1, **rules: Any
    ) -> None:
        self.live, self.now_s, self.known = live, 1000.0, Known(diagnosis)
        self.watch = StallWatch(
            live,
            lambda rank: f"worker {rank}",
            is_team=team > 1,
            explainer=self.known,
            clock=lambda: self.now_s,
        )
        self.watch.begin(StallRules(**rules))
        self.events: list[Event] = []
        self.pulses: list[PulseReading] = [pulse(rank=rank, pid=100 + rank) for rank in range(team)]

    def beat(self, rank: int = 0) -> None:
        self.pulses[rank] = replace(self.pulses[rank], beat=self.pulses[rank].beat + 1)

    def go_on(self, seconds: float, *beating: int) -> "Job":
        """Look for so many seconds, while some ranks beat."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.5
            for rank in beating:
                self.beat(rank)
            self.watch.look(self.pulses, 0.2)
            self.events += self.watch.take_events()
        return self

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Hold]]:
    """Processes that nothing holds, unless a test says so; no memory of earlier runs."""
    holds: dict[int, Hold] = {}
    monkeypatch.setattr(hold, "_hold", lambda pid, _: holds.get(pid, Hold()))
    monkeypatch.setattr(stall_watch, "Holds", lambda: Holds(lambda _: None))
    monkeypatch.setattr(stall_watch, "measured", lambda _: None)
    monkeypatch.setattr(stall_watch, "remember", lambda *_: None)
    return holds


def test_a_stall_is_told_when_it_is_noticed_and_when_it_is_over(tmp_path: Path) -> None:
    job = Job(tmp_path, run=tmp_path).go_on(9.0)
    assert job.kinds == []
    assert read_note(tmp_path) is None
    job.go_on(3.0)
    (stalled,) = job.events
    assert isinstance(stalled, Stalled)
    assert (stalled.number, stalled.role, stalled.cause) == (1, "worker 0", "deadlock")
    assert (stalled.doing, stalled.diagnosis) == ("training", DEADLOCK.finding)
    assert stalled.file == "stall-1.txt"
    assert 10.0 < stalled.seconds < 12.0
    note = read_note(tmp_path)
    assert note is not None
    assert (note.is_stall, note.finding) == (True, DEADLOCK.finding)
    job.go_on(10.0)
    job.beat()
    job.go_on(1.0, 0)
    ended = job.events[-1]
    assert isinstance(ended, StallEnded)
    assert (ended.number, ended.cause, ended.end) == (1, "deadlock", "itself")
    assert 20.0 < ended.lasted < 23.0
    assert job.kinds == ["Stalled", "StallEnded"]
    assert read_note(tmp_path) is None


def test_it_is_asked_about_all_processes_the_one_to_blame_first(tmp_path: Path) -> None:
    Pulse(tmp_path / "reader.pulse").enter(Phase.READING)
    job = Job(tmp_path, team=3).go_on(12.0, 0, 2)
    (question,) = job.known.questions
    assert question.pids == (101, 100, 102)
    assert question.roles[101] == "worker 1"
    assert "the reader" in question.roles.values()
    assert [one.rank for one in question.pulses] == [0, 1, 2, -1]
    assert question.silent_s > 10.0
    assert question.file is None


@pytest.mark.parametrize("on_stall", ["restart", "stop", "wait"])
@pytest.mark.parametrize("found", [SLEEPING, NETWORK, SLOW])
def test_a_source_that_sends_nothing_is_no_stall_and_ends_the_run_at_the_deadline(
    tmp_path: Path, on_stall: str, found: Diagnosis
) -> None:
    """Who waits for rows sleeps between two looks: what keeps their reader is asked for."""
    reader = Pulse(tmp_path / "reader.pulse")
    job = Job(tmp_path, found, on_stall=on_stall)
    rows = {"activity": "waiting for data", "waiting": "the rows of step 3", "waiting_since": 1.0}
    job.pulses[0] = pulse(pid=100, **rows)
    with reader.waiting("shard-3.jsonl"):
        job.go_on(650.0)
    assert job.known.questions[0].pids == (os.getpid(),)
    assert (job.kinds, job.watch.take_due()) == ([], [])
    ending = job.watch.ending
    if on_stall == "wait":
        assert ending is None
    else:
        assert ending is not None
        assert (ending.lacks_rows, ending.by) == (True, "missing rows")


def test_a_reader_that_waits_to_be_asked_is_not_to_blame(tmp_path: Path) -> None:
    reader = Pulse(tmp_path / "reader.pulse")
    job = Job(tmp_path)
    rows = {"activity": "waiting for data", "waiting": "the rows of step 3", "waiting_since": 1.0}
    job.pulses[0] = pulse(pid=100, **rows)
    with reader.waiting(ReaderWait.REQUEST):
        job.go_on(12.0)
    assert job.known.questions[0].pids == (100,)
    assert job.kinds == ["Stalled"]


def test_what_is_over_by_itself_is_shown_and_is_no_stall(tmp_path: Path) -> None:
    job = Job(tmp_path, SLOW).go_on(400.0)
    assert job.kinds == []
    note = read_note(tmp_path)
    assert note is not None
    assert (note.is_stall, note.finding.what) == (False, "a slow source")
    assert "this ends by itself" in note.then
    assert len(job.known.questions) < 12  # the longer, the less often


def test_one_that_gets_on_after_all_is_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, HEALTHY).go_on(30.0)
    assert job.kinds == []
    assert read_note(tmp_path) is None


def test_an_answer_that_comes_too_late_accuses_nobody(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.known.is_silent = True
    job.go_on(12.0)
    job.beat()
    job.go_on(1.0, 0)
    job.known._answers.put(Explanation(DEADLOCK))
    job.go_on(5.0, 0)
    assert job.kinds == []
    assert read_note(tmp_path) is None


@pytest.mark.parametrize(("on_stall", "act"), [("restart", Act.RESTART), ("stop", Act.STOP)])
def test_past_its_patience_something_is_done(tmp_path: Path, on_stall: str, act: Act) -> None:
    job = Job(tmp_path, on_stall=on_stall).go_on(59.0)
    assert (job.watch.take_due(), job.watch.ending) == ([], None)
    job.go_on(2.5)
    (due,) = [*job.watch.take_due(), *([job.watch.ending] if job.watch.ending else [])]
    assert (due.act, due.diagnosis, due.worker.rank) == (act, DEADLOCK, 0)
    assert job.kinds[:2] == ["Stalled", "StallEnded"]
    assert isinstance(job.events[1], StallEnded)
    assert job.events[1].end == on_stall
    assert job.watch.last_due == (due if act is Act.RESTART else None)


def test_it_is_never_acted_on_by_an_old_diagnosis(tmp_path: Path) -> None:
    job = Job(tmp_path).go_on(20.0)
    job.known.diagnosis = FULL
    job.go_on(200.0)
    assert job.watch.take_due() == []
    assert [event.cause for event in job.events if isinstance(event, Stalled)] == [
        "deadlock",
        "disk_full",
    ]
    assert {event.number for event in job.events if isinstance(event, Stalled)} == {1}
    note = read_note(tmp_path)
    assert note is not None
    assert "only a person" in note.then


def test_waiting_is_what_a_person_may_want(tmp_path: Path) -> None:
    job = Job(tmp_path, on_stall="wait").go_on(5000.0)
    assert (job.watch.take_due(), job.watch.ending) == ([], None)
    assert job.kinds == ["Stalled"]
    note = read_note(tmp_path)
    assert note is not None
    assert "--on-stall wait" in note.then


def test_work_without_an_end_is_a_stall_once_it_is_acted_on(tmp_path: Path) -> None:
    job = Job(tmp_path, COMPUTING).go_on(55.0)
    assert job.kinds == []
    job.go_on(40.0)
    assert job.kinds[:2] == ["Stalled", "StallEnded"]
    assert job.watch.take_due()[0].act is Act.RESTART


def test_an_explanation_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.known.is_silent = True
    job.go_on(70.0)
    (due,) = job.watch.take_due()
    assert due.diagnosis.cause is StallCause.UNKNOWN
    assert due.refusal().remedies


@pytest.mark.parametrize(("team", "after_s"), [(1, 60.0), (2, 5.0)])
def test_one_that_stands_still_is_noticed_at_once(
    tmp_path: Path, nobody_else: dict[int, Hold], team: int, after_s: float
) -> None:
    nobody_else[100] = Hold(is_stopped=True)
    job = Job(tmp_path, STOPPED, team=team).go_on(min(after_s, 7.0), *range(1, team))
    assert job.kinds[:1] == ["Stalled"] or after_s == 5.0
    job.go_on(after_s + 35.0, *range(1, team))
    due = job.watch.take_due()[0]
    assert (due.is_stopped, due.worker.rank) == (True, 0)
    assert after_s < due.worker.silent_s < after_s + 35.0


def test_one_that_a_debugger_has_is_left_alone(
    tmp_path: Path, nobody_else: dict[int, Hold]
) -> None:
    nobody_else[100] = Hold(is_traced=True, counted=0.0)
    job = Job(tmp_path, STOPPED).go_on(3000.0)
    assert (job.kinds, job.watch.take_due()) == ([], [])
    note = read_note(tmp_path)
    assert note is not None
    assert not note.is_stall


def test_a_process_that_is_gone_ends_its_stall(tmp_path: Path) -> None:
    job = Job(tmp_path, team=2).go_on(12.0, 0)
    job.pulses.pop()
    job.go_on(1.0, 0)
    ended = job.events[-1]
    assert isinstance(ended, StallEnded)
    assert ended.end == "death"


def test_the_end_of_a_watch_ends_its_stall(tmp_path: Path) -> None:
    job = Job(tmp_path).go_on(12.0)
    job.watch.close()
    assert isinstance(job.watch.take_events()[0], StallEnded)
    assert read_note(tmp_path) is None


def test_waits_are_not_ended_where_anything_may_be_waited_for(tmp_path: Path) -> None:
    job = Job(tmp_path, DEADLOCK, ends_waits=False)
    job.pulses[0] = pulse(pid=100, phase="reading", waiting="pipe.jsonl", waiting_since=1.0)
    job.go_on(5000.0)
    assert job.watch.take_due() == []


def test_numbers_go_on_where_the_log_ends(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(Stalled(4, "worker 0", "deadlock", 12.0, "training", DEADLOCK.finding, ""))
    job = Job(tmp_path, run=tmp_path).go_on(12.0)
    assert [event.number for event in job.events if isinstance(event, Stalled)] == [5]
    assert job.known.questions[0].file == tmp_path / "stall-5.txt"


def test_a_long_phase_is_remembered_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, float] = {}
    monkeypatch.setattr(stall_watch, "remember", kept.__setitem__)
    monkeypatch.setattr(stall_watch, "measured", kept.get)

    def asked(length_s: float) -> int:
        job = Job(tmp_path, HEALTHY, about="9000|cpu")
        job.pulses[0] = replace(job.pulses[0], phase="saving")
        job.go_on(length_s)
        job.beat()
        job.go_on(0.5)
        job.watch.close()
        return len(job.known.questions)

    assert asked(50.0) == 1
    assert list(kept) == ["silence|9000|cpu|saving"]
    assert asked(50.0) == 0
    assert 49.0 < kept["silence|9000|cpu|saving"] < 51.0
