"""The folder of a guarded run: what it holds, and that a disk that fails harms nobody."""

import json
from pathlib import Path

import pytest

from headway.base.errors import Finding
from headway.base.events import Ended, Noted, read_events
from headway.guard.run_record import RunRecord
from headway.supervise.live.live_jobs import find_status


def test_the_folder_shows_in_status_while_it_lasts_and_after(tmp_path: Path) -> None:
    record = RunRecord.open("train", ("python", "train.py", "--hf_token", "hf_abcdefgh"), tmp_path)
    assert record.folder is not None
    assert record.folder == tmp_path / "train"
    assert find_status("train", tmp_path).state == "starting"
    record.output(b"hello\n")
    record.note(Finding("warning", "careful"))
    record.save(own_exit_code=3)
    record.end("failed", 3, "ended with 3", None)
    status = find_status("train", tmp_path)
    assert (status.state, status.exit_code, status.line) == ("failed", 3, "ended with 3")
    assert (record.folder / "output.log").read_bytes() == b"hello\n"
    kept = json.loads((record.folder / "guard.json").read_bytes())
    assert kept["own_exit_code"] == 3
    assert kept["command"] == ["python", "train.py", "--hf_token", "..."]
    assert "hf_abcdefgh" not in (record.folder / "watched.json").read_text()
    kinds = [type(entry.event) for entry in read_events(record.folder / "events.jsonl")]
    assert kinds[-2:] == [Noted, Ended]


def test_the_next_one_of_that_name_gets_a_number(tmp_path: Path) -> None:
    for name in ("train", "train-2", "train-3"):
        record = RunRecord.open("train", ("x",), tmp_path)
        assert record.name == name
        record.end("finished", 0, "", None)


@pytest.mark.parametrize("place", ["file/runs", "/proc/nowhere/runs"])
def test_without_a_folder_it_goes_on(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    record = RunRecord.open("train", ("x",), tmp_path / place)
    assert record.folder is None
    assert record.problem.startswith("no folder for this run")
    record.output(b"x")
    record.note(Finding("warning", "careful"))
    assert record.keep_evidence(1, "text") == ""
    record.end("finished", 0, "", None)


def test_evidence_that_could_not_be_written_is_not_claimed(tmp_path: Path) -> None:
    record = RunRecord.open("train", ("x",), tmp_path)
    assert record.folder
    (record.folder / "stall-1.txt").mkdir()
    assert record.keep_evidence(1, "text") == ""
    assert record.problem
    assert Path(record.keep_evidence(2, "text")).read_text() == "text"
    record.end("finished", 0, "", None)
