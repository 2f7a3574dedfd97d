"""The measurement of the inbox: what the time to a first step is made of, and what a commit is."""

import importlib
import json
import os
import subprocess
import sys
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


def test_the_time_of_a_file_adds_up(load: Load, tmp_path: Path) -> None:
    state = tmp_path / ".headway"
    run = state / "runs" / "0002-b"
    run.mkdir(parents=True)
    (state / "jobs").mkdir()
    times = {"claimed_at": "1970-01-01T00:01:41+00:00", "ended_at": "1970-01-01T00:01:50+00:00"}
    (state / "jobs/0001.json").write_text('{"ended_at": "1970-01-01T00:01:40+00:00"}')
    (state / "jobs/0002.json").write_text(json.dumps(times))
    events = [
        {"event": "attempt_started", "at": "1970-01-01T00:01:42+00:00"},
        {"event": "step_done", "at": "1970-01-01T00:01:44+00:00", "seconds": 0.5},
        {"event": "step_done", "at": "1970-01-01T00:01:45+00:00", "seconds": 1.0},
        {"event": "saved", "at": "1970-01-01T00:01:46+00:00", "seconds": 0.25},
        {"event": "ended", "at": "1970-01-01T00:01:47+00:00"},
    ]
    (run / "events.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in events))
    phases = {"loading the model": 0.5, "checking the packing": 0.125, "probing": 0.25}
    receipt = {"time": {"by_phase": phases | {"auditing the weights": 0.125}}}
    (run / "receipt.json").write_text(json.dumps(receipt))
    (run / "still_known.json").touch()
    os.utime(run / "still_known.json", (109.0, 109.0))
    assert load("inbox").spent(tmp_path, run.with_name("0001-a"), run) == {
        "whole": 10.0,
        "steps": 1.5,
        "planning": 1.0,
        "loading": 0.5,
        "trying_packing": 0.125,
        "losses_before_and_after": 0.25,
        "saving": 0.25,
        "auditing": 0.125,
        "other": 6.25,
        "still_known_beside": 2.0,
    }


def test_the_time_of_orphans_is_counted_too() -> None:
    """In a process of its own: a test process adopts nobody."""
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    orphan = [sys.executable, "-c", burn]
    start = f"import subprocess; subprocess.Popen({orphan!r})"
    script = f"""if True:
        import sys, subprocess
        sys.path[:0] = {[str(BENCH), str(BENCH / "peers")]!r}
        import inbox
        inbox.adopt_orphans()
        subprocess.run({[sys.executable, "-c", start]!r}, check=True)
        print(inbox.children_s())
    """
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert float(found.stdout) >= 0.3


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
