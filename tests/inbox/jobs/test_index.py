"""The index: made from the records, and again when it is lost, damaged or cannot be written."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.inbox.jobs.test_inbox_job import JOB

from headway.inbox.jobs.inbox_job import JobState
from headway.inbox.jobs.index import JobIndex

DONE = replace(JOB, number=2, state=JobState.DONE, sha256="cd")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


def test_content_is_found_once_it_is_trained(file: Path) -> None:
    index = JobIndex(file)
    index.rebuild([JOB, DONE, replace(DONE, number=3)])
    assert index.trained("cd") == 2
    assert index.trained("ab") is None  # it is only claimed
    index.put(replace(JOB, state=JobState.DONE))
    assert index.trained("ab") == 1
    index.put(replace(DONE, state=JobState.UNDONE))
    assert index.trained("cd") == 3
    index.close()


def test_every_commit_is_on_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[sqlite3.Connection] = []
    real = sqlite3.connect

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        made.append(real(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", connect)
    index = JobIndex(file)
    index.rebuild([JOB])
    (connection,) = made
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma synchronous").fetchone() == (2,)
    index.close()


def test_an_earlier_attempt_changes_nothing(file: Path) -> None:
    index = JobIndex(file)
    index.put(replace(DONE, attempts=2))
    index.put(replace(DONE, attempts=1, state=JobState.FAILED))
    assert index.trained("cd") == 2
    index.close()


@pytest.mark.parametrize("how", ["deleted", "damaged", "another table", "no folder"])
def test_it_is_made_again(file: Path, tmp_path: Path, how: str) -> None:
    index = JobIndex(file)
    index.rebuild([DONE])
    match how:
        case "deleted":
            file.unlink()
        case "damaged":
            index.close()
            file.write_bytes(b"x" * 5000)
        case "another table":
            index.close()
            file.unlink()
            other = sqlite3.connect(file)
            other.execute("create table jobs (a)")
            other.commit()
            other.close()
        case _:
            index.close()
            file.unlink()
            index = JobIndex(tmp_path / "none" / "index.sqlite")
            index.rebuild([DONE])
    assert index.trained("cd") == 2
    index.put(replace(DONE, number=9, sha256="ef"))
    assert index.trained("ef") == 9
    index.close()
