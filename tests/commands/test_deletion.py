"""runs --delete, as it is typed: asked first, told afterwards."""

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from tests.runs.archives import back_up, make_run
from tests.ui.fixtures import conversations_plan

from headway.cli import run
from headway.runs.folder import RunFolder


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in ./runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    folder = make_run(tmp_path / "runs" / "notes")
    conversations_plan().save(folder.path)
    return folder.path


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> Terminal:
    out = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stdout", out)
    return out


def test_a_person_is_asked_and_told(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = back_up(RunFolder(notes))
    out = on_a_terminal(monkeypatch, "yes\n")
    assert run(["runs", "--delete", "notes"]) == 0
    assert not notes.exists()
    shown = out.getvalue()
    asked, _, told = shown.partition("Type yes to delete notes: ")
    assert str(notes) in "".join(asked.split())  # a long path is wrapped
    assert "2 checkpoints" in " ".join(asked.split())
    assert "frees" in asked
    assert told.startswith("deleted notes · ")
    assert " freed\n" in told
    for part in (asked, told):
        assert "1 backup kept" in part
    (restore,) = [line.strip() for line in told.splitlines() if "restore" in line]
    assert restore == f"headway restore notes {backup.name}"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert run(shlex.split(restore)[1:]) == 0
    assert (notes / "plan.json").exists()


@pytest.mark.parametrize("answer", ["no\n", "\n", "", "y\n", "notes\n"])
def test_anything_but_yes_deletes_nothing(
    notes: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    out = on_a_terminal(monkeypatch, answer)
    assert run(["runs", "--delete", "notes"]) == 0
    assert out.getvalue().endswith("nothing was deleted\n")
    assert (notes / "plan.json").exists()


@pytest.mark.parametrize("more", [[], ["-o", "runs/../runs"], ["--json"]])
def test_without_a_terminal_the_line_to_type_is_told_and_works(
    notes: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "--delete", "notes", *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith("nothing was deleted")
    assert (notes / "plan.json").exists()
    (line,) = [line for line in told.splitlines() if line.startswith("  try")]
    command = line.removeprefix("  try   ").removesuffix("   deletes without asking")
    assert run(shlex.split(command)[1:]) == 0
    assert not notes.exists()
    assert capsys.readouterr().out.startswith("deleted notes")


def test_programs_get_json(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "--delete", "notes", "-y", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["run"], one["checkpoints"], one["folder"]) == ("notes", 2, str(notes))


def test_names_are_needed_and_only_with_delete(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "--delete"]) == 2
    assert "headway runs --delete RUN" in capsys.readouterr().err
    assert run(["runs", "notes"]) == 2
    assert run(["runs", "--delete", "nots", "-y"]) == 2
    assert "notes" in capsys.readouterr().err
    assert notes.exists()
