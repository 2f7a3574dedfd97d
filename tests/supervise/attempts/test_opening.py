"""The files a run starts with, and the first event of an attempt."""

from dataclasses import replace
from pathlib import Path

from tests.helpers import settings
from tests.ui.fixtures import conversations_plan

from headway.base.events import AttemptStarted, Noted, read_events
from headway.base.lock import RunLock
from headway.runs.folder import RunFolder
from headway.supervise.attempts.opening import open_attempt, write_run


def opened(folder: RunFolder, note: str = "") -> int:
    with RunLock(folder.lock) as lock:
        log, reader = open_attempt(folder, conversations_plan(), lock, 0.0, note)
    (started,) = [e.event for e in reader.new() if isinstance(e.event, AttemptStarted)]
    assert started.run == folder.path.name
    return log.attempt


def test_attempts_are_counted_and_an_old_receipt_is_deleted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert opened(folder) == 1
    (tmp_path / "receipt.json").write_text("of attempt 1")
    assert opened(folder, note="smaller micro-batches from here on") == 2
    assert not (tmp_path / "receipt.json").exists()
    notes = [e.event for e in read_events(folder.events) if isinstance(e.event, Noted)]
    assert [note.finding.what for note in notes] == ["smaller micro-batches from here on"]


def test_a_new_run_has_its_plan_and_settings_without_credentials(tmp_path: Path) -> None:
    source = "https://user:secret@example.org/a.txt"
    write_run(RunFolder(tmp_path), conversations_plan(), settings(), (source,))
    saved = RunFolder(tmp_path).plan()
    assert saved
    assert saved.identity == conversations_plan().identity
    written = (tmp_path / "run.yaml").read_text()
    assert "example.org/a.txt" in written
    assert "secret" not in written


def test_records_that_were_rejected_are_listed_in_the_run(tmp_path: Path) -> None:
    plan, folder = conversations_plan(), tmp_path / "run"
    folder.mkdir()
    store = tmp_path / "store"
    store.mkdir()
    (store / "rejected.jsonl").write_text('{"file": "a.jsonl", "line": 3}\n')
    plan = replace(plan, data=replace(plan.data, store=str(store)))
    write_run(RunFolder(folder), plan, settings(), ("a.jsonl",))
    assert (folder / "rejected.jsonl").read_text() == '{"file": "a.jsonl", "line": 3}\n'
