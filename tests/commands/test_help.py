"""Help: every verb and option, in lines that fit, with examples that work."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Exit
from headway.base.events import AttemptStarted, Ended, EventLog
from headway.cli import VERBS, run
from headway.commands.help import overview_lines, verb_lines
from headway.commands.verb import GROUPS
from headway.config.command_line import parse
from headway.config.settings import printed_name, subjects, table, value_name

WIDTHS = (40, 60, 80, 120)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_overview_has_each_verb_once_in_its_group(width: int) -> None:
    lines = overview_lines(VERBS, width)
    assert max(map(len, lines)) <= width
    for name, verb in VERBS.items():
        assert verb.group in GROUPS
        assert len([line for line in lines if f"{line} ".startswith(f"  {name} ")]) == 1
        assert " ".join(verb.help.split()) in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("name", VERBS)
def test_a_page_explains_the_verb_with_each_option(name: str) -> None:
    verb = VERBS[name]
    lines = verb_lines(verb, 80)
    assert lines[0] == f"usage: headway {verb.usage}"
    text = " ".join("\n".join(lines).split())
    assert verb.about in text
    assert 1 <= verb.about.count(". ") + verb.about.endswith(".") <= 3
    for option, switch in verb.options.items():
        assert f"--{option.replace('_', '-')}" in text
        assert switch.help in text
    assert ("--learning-rate X" in text) == verb.settings


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", VERBS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    copied = [f"  {command}" for command, _ in VERBS[name].examples]
    lines = verb_lines(VERBS[name], width)
    assert [line for line in lines if len(line) > width and line not in copied] == []
    assert max(map(len, copied)) <= 60


def test_every_setting_has_a_subject_and_takes_something_or_is_a_flag() -> None:
    listed = [row for rows in subjects().values() for row in rows]
    assert listed == table()
    assert "" not in subjects()
    assert [len(rows) for rows in subjects().values() if len(rows) > 12] == []
    names = {printed_name(row): value_name(row) for row in table()}
    assert (names["lora"], names["max_length"], names["max_time"]) == ("", "N", "TIME")
    assert (names["max_tokens"], names["learning_rate"], names["continue"]) == ("SIZE", "X", "RUN")
    assert names["device"] == "cpu|cuda|mps"


def examples(verb: str) -> Iterator[list[str]]:
    """The words after `headway VERB` of each example, without what is before or after a pipe."""
    for command, what in VERBS[verb].examples:
        words = shlex.split(command)
        words = words[words.index("headway") :] if "headway" in words else words
        words = words[: words.index("|")] if "|" in words else words
        words = [word.removeprefix("<(").removesuffix(")") for word in words if word != "source"]
        assert words[:2] == ["headway", verb]
        assert what
        yield words[2:]


@pytest.mark.parametrize("name", VERBS)
def test_each_of_three_examples_can_be_typed(name: str) -> None:
    verb = VERBS[name]
    found = list(examples(name))
    assert len(found) == 3
    for words in found:
        arguments = parse(words, verb.options, settings=verb.settings)
        if verb.settings:
            arguments.settings()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("name", ["runs", "status", "logs", "stop", "doctor"])
def test_examples_that_look_are_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "notes"
    folder.mkdir(parents=True)
    conversations_plan().save(folder)
    log = EventLog(folder / "events.jsonl")
    log.write(AttemptStarted("notes", "1", 1, 2488, ""))
    log.write(Ended("finished", 0, "kept: 3 of 3 steps"))
    monkeypatch.chdir(tmp_path)
    for words in examples(name):
        shutil.copytree("runs", "there", dirs_exist_ok=True)
        here = ["there" if word == "/data/runs" else word for word in words]
        if "--delete" in here:
            continue  # tests/commands/test_deletion.py
        assert run([name, *here]) in ((Exit.KEPT, Exit.MACHINE) if name == "doctor" else (0,))
        assert capsys.readouterr().out


@pytest.mark.parametrize("width", ["60", "80"])
def test_help_fits_a_pipe_too(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    command = [sys.executable, "-m", "headway", "logs", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= int(width)
    assert done.stdout.splitlines() == verb_lines(VERBS["logs"], int(width))
