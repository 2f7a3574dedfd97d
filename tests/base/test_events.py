"""The log of a run: whole lines, one story, whatever was interrupted."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import Finding, Remedy
from headway.base.events import (
    KINDS,
    MAX_LINE_BYTES,
    AttemptStarted,
    Ended,
    Evaluated,
    Event,
    EventLog,
    EventReader,
    LogEntry,
    Noted,
    PhaseEntered,
    Probed,
    Refined,
    Resumed,
    Sampled,
    Saved,
    Stalled,
    StallEnded,
    StepDone,
    StepPrinted,
    StopAsked,
    find_events,
    read_entry,
    read_events,
)

FINDING = Finding("warning", "w", "1", "2", (Remedy("do", "gives"),))
EXAMPLES: dict[type[Event], Event] = {
    AttemptStarted: AttemptStarted("notes", "0.1.0", 4711, 2488, "checkpoint-2488"),
    Resumed: Resumed("checkpoint-2500", 2500),
    PhaseEntered: PhaseEntered("training"),
    Probed: Probed("before", 2.41, None),
    StepDone: StepDone(1, 2489, 1, 2.4, 0.5, 2e-4, 8, 700, 800, 832, 0.25),
    StepPrinted: StepPrinted(12, 100, 0.5, 2.25, 2e-4),
    Refined: Refined(60.0, 4589.0),
    Evaluated: Evaluated(2500, 1.5, 64, 0.4),
    Sampled: Sampled(2500, "Once", "upon a time"),
    Saved: Saved(2500, "checkpoint-2500", 12_000_000, 0.3, 0.002),
    Noted: Noted(FINDING),
    Stalled: Stalled(1, "worker 2 of 4", "deadlock", 12.5, "training", FINDING, "stall-1.txt"),
    StallEnded: StallEnded(1, "deadlock", 30.0, "restart"),
    StopAsked: StopAsked("SIGTERM"),
    Ended: Ended("failed", 4, "broken: loss is NaN", FINDING),
}


def log_of(path: Path, *events: Event, attempt: int = 1) -> None:
    log = EventLog(path, attempt)
    for event in events:
        log.write(event)


def step(global_step: int, loss: float = 1.0) -> StepDone:
    return StepDone(global_step, global_step, 1, loss, 0.5, 2e-4, 8, 700, 800, 832, 0.25)


def started(from_global_step: int) -> AttemptStarted:
    return AttemptStarted("notes", "0.1.0", 1, from_global_step, "")


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_comes_back_as_it_was_written(tmp_path: Path, kind: type[Event]) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path, attempt=2, rank=3).write(EXAMPLES[kind])
    (entry,) = EventReader(path).new()
    assert entry.event == EXAMPLES[kind]
    assert (entry.attempt, entry.rank) == (2, 3)
    assert entry.at.endswith("+00:00")
    assert 0 <= entry.t < 60


def test_a_line_is_flat_and_names_its_event(tmp_path: Path) -> None:
    log_of(tmp_path / "events.jsonl", EXAMPLES[StepDone])
    line = json.loads((tmp_path / "events.jsonl").read_text())
    assert list(line)[:5] == ["at", "t", "attempt", "rank", "event"]
    assert line["event"] == "step_done"
    assert line["global_step"] == 2489


def test_the_time_that_writing_takes_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 7))
    monkeypatch.setattr("headway.base.events.time.monotonic", lambda: float(next(clock)))
    log = EventLog(tmp_path / "events.jsonl")
    log.write(EXAMPLES[StepDone])
    once_s = log.written_s
    log.write(EXAMPLES[StepDone])
    assert (once_s, log.written_s) == (14.0, 28.0)  # the clock is read for the line, too


def test_no_event_has_a_field_of_the_envelope() -> None:
    for kind in KINDS.values():
        assert set(get_type_hints(kind)).isdisjoint(("at", "t", "attempt", "rank", "event"))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_f30_a_loss_that_is_no_number_is_no_lost_event(tmp_path: Path, loss: float) -> None:
    log_of(tmp_path / "events.jsonl", step(7, loss), Evaluated(7, loss, 8, 0.1))
    first, second = (entry.event for entry in read_events(tmp_path / "events.jsonl"))
    assert isinstance(first, StepDone)
    assert isinstance(second, Evaluated)
    assert not math.isfinite(first.loss)
    assert not math.isfinite(second.held_out)


# -- lines stay under 4 KiB

LONG = {
    "ascii": "x" * 100_000,
    "two bytes": "é" * 50_000,
    "four bytes": "😀" * 50_000,
    "escaped": "\x01" * 50_000,
    "quotes": '"\\' * 50_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=list(LONG))
def test_a_huge_text_is_cut_never_the_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "events.jsonl"
    finding = Finding("refused", text, text, text, (Remedy(text, text),) * 50)
    log_of(path, Sampled(1, text, text), Noted(finding), Ended("failed", 1, text, finding))
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    assert all(len(line) <= MAX_LINE_BYTES for line in lines)
    sampled, noted, ended = (entry.event for entry in read_events(path))
    assert isinstance(sampled, Sampled)
    assert sampled.text.startswith(text[:10])
    assert sampled.text.endswith(" [cut]")
    assert isinstance(noted, Noted)
    assert isinstance(ended, Ended)


@given(st.text(st.characters(codec="utf-8"), max_size=3000), st.integers(0, 3))
def test_whatever_the_text_the_line_is_whole_and_short(
    tmp_path_factory: pytest.TempPathFactory, text: str, times: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log_of(path, Sampled(1, text, text * times))
    assert len(path.read_bytes()) <= MAX_LINE_BYTES
    (entry,) = read_events(path)
    assert isinstance(entry.event, Sampled)


# -- reading while it is written


def test_a_reader_gives_each_line_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert list(reader.new()) == []  # no log yet
    log_of(path, step(1), step(2))
    assert [e.event for e in reader.new()] == [step(1), step(2)]
    assert list(reader.new()) == []
    log_of(path, step(3))
    assert [e.event for e in reader.new()] == [step(3)]


def test_a_broken_last_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log_of(path, step(1), step(2))
    whole = path.read_bytes()
    reader = EventReader(path)
    for cut in range(len(whole) // 2 + 5, len(whole), 7):
        path.write_bytes(whole[:cut])
        assert [e.event for e in EventReader(path).new()] == [step(1)]
    path.write_bytes(whole[:-3])
    assert [e.event for e in reader.new()] == [step(1)]
    path.write_bytes(whole)
    assert [e.event for e in reader.new()] == [step(2)]


def test_f35_a_torn_line_is_lost_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log_of(path, step(1), step(2))
    whole = path.read_bytes()
    for cut in range(len(whole) // 2 + 5, len(whole), 7):
        path.write_bytes(whole[:cut])
        reader = EventReader(path)
        assert [e.event for e in reader.new()] == [step(1)]
        log_of(path, step(3), step(4))
        assert [e.event for e in reader.new()] == [step(3), step(4)]
        assert b"\n\n" not in path.read_bytes()


def test_a_log_started_afresh_under_the_same_name_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log_of(path, *(step(n) for n in range(1, 20)))
    reader = EventReader(path)
    assert len(list(reader.new())) == 19
    path.unlink()
    log_of(path, step(1))
    assert [e.event for e in reader.new()] == [step(1)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"event": "step_done"}',
        b'{"event": "of_the_future", "at": "", "t": 0, "attempt": 1, "rank": 0}',
        b'{"event": "phase_entered", "phase": 3, "at": "", "t": 0, "attempt": 1, "rank": 0}',
    ],
)
def test_a_line_of_no_use_is_passed_over(line: bytes) -> None:
    assert read_entry(line) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_none(line: bytes) -> None:
    assert isinstance(read_entry(line), LogEntry | None)


# -- one story of several attempts


def test_steps_that_a_later_attempt_did_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log_of(path, started(0), *(step(n, 1.0) for n in range(1, 6)))
    log_of(path, Saved(5, "checkpoint-5", 1, 0.1), Evaluated(5, 2.0, 8, 0.1))
    log_of(path, started(3), *(step(n, 2.0) for n in range(4, 8)), attempt=2)
    log_of(path, started(6), step(7, 3.0), attempt=3)
    told = read_events(path)
    steps = [e.event for e in told if isinstance(e.event, StepDone)]
    assert [s.global_step for s in steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [s.loss for s in steps] == [1, 1, 1, 2, 2, 2, 3]
    assert not any(isinstance(e.event, Saved | Evaluated) for e in told)
    assert sum(isinstance(e.event, AttemptStarted) for e in told) == 3


APPEND = """
import sys
from pathlib import Path
from headway.base.events import EventLog, Sampled
path, rank, count = sys.argv[1:]
log = EventLog(Path(path), rank=int(rank))
for n in range(int(count)):
    log.write(Sampled(n, "é" * 50, rank * 3500))
"""


def test_four_processes_appending_at_once_leave_whole_lines(tmp_path: Path) -> None:
    path, count = tmp_path / "events.jsonl", 250
    commands = [[sys.executable, "-c", APPEND, path, str(rank), str(count)] for rank in range(4)]
    writers = [subprocess.Popen(command) for command in commands]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    entries = read_events(path)
    assert len(path.read_bytes().splitlines()) == len(entries) == 4 * count
    for rank in range(4):
        mine = [e.event for e in entries if e.rank == rank]
        assert [e.global_step for e in mine if isinstance(e, Sampled)] == list(range(count))
        assert all(isinstance(e, Sampled) and e.text == str(rank) * 3500 for e in mine)


@pytest.mark.parametrize("recreated", [True, False])
def test_a_log_that_is_deleted_is_noticed(tmp_path: Path, recreated: bool) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert list(reader.new()) == []
    assert reader.num_lost == 0  # there was none yet
    log = EventLog(path)
    log.write(PhaseEntered("training"))
    assert len(list(reader.new())) == 1
    path.rename(tmp_path / "elsewhere")
    if recreated:
        log.write(PhaseEntered("saving"))
        log.write(PhaseEntered("training"))
    assert len(list(reader.new())) == 2 * recreated
    assert reader.num_lost == 1
    log.write(PhaseEntered("probing"))
    assert len(list(reader.new())) == 1
    assert reader.num_lost == 1


def test_some_kinds_are_found_without_reading_the_others(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert find_events(path, (PhaseEntered,)) == []
    log = EventLog(path)
    log.write(PhaseEntered("training"))
    log.write(Sampled(1, "p", '"event":"phase_entered"'))
    log.write(PhaseEntered("saving"))
    with path.open("ab") as file:
        file.write(b'{"event":"phase_entered", torn')
    found = find_events(path, (PhaseEntered,))
    assert [entry.event for entry in found] == [PhaseEntered("training"), PhaseEntered("saving")]
