"""What the verbs share."""

import json

import pytest

from headway.base.errors import Cause, UsageError
from headway.commands.verb import (
    one_run,
    output_dir,
    print_json,
    print_lines,
    terminal_width,
)
from headway.config.command_line import Arguments


def test_one_run_or_none_for_the_newest() -> None:
    assert one_run(Arguments()) is None
    assert one_run(Arguments(words=["notes"])) == "notes"


def test_two_runs_are_refused_with_each_to_type() -> None:
    with pytest.raises(UsageError) as refused:
        one_run(Arguments(words=["notes", "chats"]))
    assert refused.value.cause is Cause.UNEXPECTED_ARGUMENT
    assert [remedy.do for remedy in refused.value.remedies] == ["notes", "chats"]


def test_runs_are_in_runs_unless_it_says_where() -> None:
    assert str(output_dir(Arguments())) == "runs"
    assert str(output_dir(Arguments(switches={"output_dir": "/else"}))) == "/else"


def test_lines_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(["one", "two"])
    assert capsys.readouterr().out == "one\ntwo\n"
    print_json({"a": [1]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [1]}
    assert out.startswith('{\n  "a"')


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("20", 40), ("300", 120)])
def test_text_stays_readable_at_any_width(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == width
