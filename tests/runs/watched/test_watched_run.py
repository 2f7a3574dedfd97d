"""Watched run: what watched.json keeps, and who finds the run by it."""

from pathlib import Path

import msgspec
import pytest

from headway.base.errors import Cause, Finding, UsageError
from headway.runs.folder import find_run, is_run, list_runs
from headway.runs.watched.watched_run import (
    FILE,
    WatchedRun,
    WatchedSteps,
    is_watched,
    load_watched,
)

RUN = WatchedRun(
    "notes",
    "callback",
    "Trainer of transformers 5.23.0",
    steps=WatchedSteps(8, 16),
    not_checked=("labels: the data can be read once only",),
    findings=(Finding("warning", "w", cause=Cause.NO_DEVICE),),
    facts={"padding": "12%"},
)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    RUN.save(tmp_path)
    assert load_watched(tmp_path) == RUN


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(msgspec.json.encode({"schema": "headway.watched/99"}))
    with pytest.raises(UsageError) as refused:
        load_watched(tmp_path)
    assert refused.value.cause is Cause.NEWER_VERSION


def test_a_watched_run_is_a_run_without_a_plan(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "notes"
    folder.mkdir(parents=True)
    assert not is_run(folder)
    RUN.save(folder)
    assert is_run(folder)
    assert is_watched(folder)
    assert [run.path for run in list_runs(tmp_path / "runs")] == [folder]
    assert find_run("notes", tmp_path / "runs").plan() is None
