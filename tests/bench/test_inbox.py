"""The measurement of the inbox: what the time to a first step is made of, and what a commit is."""

import importlib
import types
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.syspath_prepend(BENCH / "peers")
    return importlib.import_module


def test_the_parts_add_up(load: Load) -> None:
    events = [
        {"event": "attempt_started", "at": "1970-01-01T00:01:41.500+00:00"},
        {"event": "noted", "at": "1970-01-01T00:01:42.000+00:00"},
        {"event": "step_done", "at": "1970-01-01T00:01:42.250+00:00"},
        {"event": "step_done", "at": "1970-01-01T00:01:50.000+00:00"},
    ]
    found = load("inbox").parts(events, closed_s=100.0)
    assert found == {"first_step_s": 2.25, "until_the_plan_s": 1.5, "from_the_plan_s": 0.75}


def test_a_commit_ends_with_the_file_in_done(load: Load, tmp_path: Path) -> None:
    found = load("inbox").commits(tmp_path / "inbox", 3)
    assert sorted(path.name for path in (tmp_path / "inbox/done").iterdir()) == sorted(
        name for n in range(3) for name in (f"{n:04}.txt", f"{n:04}.txt.receipt.json")
    )
    assert found["files"] == 3
    assert found["files_per_s"] == pytest.approx(1 / found["seconds_of_each"])


def test_a_file_is_closed_before_its_time_is_taken(load: Load, tmp_path: Path) -> None:
    inbox = load("inbox").made(tmp_path / "inbox")
    before_s = (tmp_path / "inbox/headway.yaml").stat().st_mtime
    closed_s = load("inbox").drop(inbox, "a.jsonl", ["a\n", "b\n"])
    assert (inbox / "a.jsonl").read_text() == "a\nb\n"
    assert closed_s >= before_s
