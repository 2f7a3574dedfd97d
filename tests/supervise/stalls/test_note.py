"""Why a job shows nothing new, for everybody who looks into its live folder."""

from pathlib import Path

from headway.base.errors import Finding, Remedy
from headway.diagnose.diagnosis import StallCause
from headway.supervise.live.live_jobs import read_pulses
from headway.supervise.stalls.note import StallNote, read_note, remove_note

FINDING = Finding("warning", "waits for itself", "one lock", "two", (Remedy("try this", "works"),))
NOTE = StallNote(StallCause.DEADLOCK, FINDING, True, "worker 1", 100.0, "then", "stall-1.txt")


def test_it_is_there_while_the_job_does_not_get_on(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    NOTE.publish(tmp_path)
    assert read_note(tmp_path) == NOTE
    assert read_pulses(tmp_path).stall == NOTE
    remove_note(tmp_path)
    assert read_pulses(tmp_path).stall is None
    remove_note(tmp_path)


def test_what_is_no_note_is_none(tmp_path: Path) -> None:
    (tmp_path / "stall.json").write_text("{")
    assert read_note(tmp_path) is None


def test_a_person_is_told_since_when_and_what_to_try() -> None:
    told = NOTE.status(130.0)
    assert (told.cause, told.since_s, told.tries) == ("deadlock", 30.0, ("try this",))
    assert (told.role, told.file, told.then) == ("worker 1", "stall-1.txt", "then")
