"""What a receipt takes from the log, and verify finds there again."""

from pathlib import Path

from headway.base.errors import Finding
from headway.base.events import Event, EventLog, PhaseEntered, Stalled, StallEnded, StopAsked
from headway.base.pulse import Phase
from headway.runs.log_facts import LogFacts, ReceiptStalls

RECEIPT = PhaseEntered(Phase.WRITING_RECEIPT)


def stalled(number: int, cause: str, seconds: float = 12.0) -> Stalled:
    return Stalled(number, "the trainer", cause, seconds, "training", Finding("warning", "w"), "")


def facts_of(folder: Path, *attempts: list[Event]) -> LogFacts:
    for number, events in enumerate(attempts, 1):
        log = EventLog(folder / "events.jsonl", number)
        for event in events:
            log.write(event)
    return LogFacts.read(folder / "events.jsonl", len(attempts))


def test_a_run_without_stalls_has_none(tmp_path: Path) -> None:
    assert LogFacts.read(tmp_path / "events.jsonl", 1) == LogFacts(None, "")
    assert facts_of(tmp_path, [RECEIPT]) == LogFacts(None, "")


def test_stalls_of_all_attempts_count_once_each_by_their_last_cause(tmp_path: Path) -> None:
    found = facts_of(
        tmp_path,
        [stalled(1, "deadlock"), StallEnded(1, "deadlock", 14.0, "itself"), stalled(2, "unknown")],
        [stalled(2, "disk_full"), StallEnded(2, "disk_full", 90.5, "restart")],
        [stalled(3, "deadlock", 33.0), RECEIPT],
    )
    assert found.stalls == ReceiptStalls(3, 90.5, {"deadlock": 2, "disk_full": 1}, restarts=1)


def test_what_came_after_the_receipt_was_begun_does_not_count(tmp_path: Path) -> None:
    found = facts_of(tmp_path, [stalled(1, "deadlock"), RECEIPT], [RECEIPT, stalled(2, "deadlock")])
    assert found.stalls is not None
    assert found.stalls.number == 1


def test_who_asked_first_is_who_stopped_it(tmp_path: Path) -> None:
    asked = [StopAsked("a stall"), StopAsked("SIGTERM")]
    assert facts_of(tmp_path, [StopAsked("SIGINT")], [*asked, RECEIPT]).asked_by == "a stall"
    assert LogFacts.read(tmp_path / "events.jsonl", 3).asked_by == ""
