"""The lines about one file: what it will do, its steps, its closing line."""

import io
from typing import Any

import pytest
from tests.ui.fixtures import conversations_plan, entry, receipt, step_done

from headway.base.errors import Cause, DataRefused
from headway.inbox import file_screen
from headway.inbox.file_screen import file_line, make_file_screen


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("lesson2.jsonl", 2488, 4976, 840.0, 3),
            "lesson2.jsonl trains 2,488 steps, reaching global step 4,976, about 14 min; "
            "3 files waiting",
        ),
        (("a", 1, 1, None, 1), "a trains 1 step, reaching global step 1; 1 file waiting"),
        (("a\x1b", 1, 1, None, 0), "a� trains 1 step, reaching global step 1; no files waiting"),
    ],
)
def test_the_line_before_a_file(arguments: Any, line: str) -> None:
    assert file_line(*arguments) == line


class Streams:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(file_screen.sys, "stdout", self.out)
        monkeypatch.setattr(file_screen.sys, "stderr", self.err)

    def shown(self, **how: bool) -> str:
        screen = make_file_screen(
            "b.jsonl",
            2,
            logging_steps=None,
            quiet=how.get("quiet", False),
            json=how.get("json", False),
            verbose=how.get("verbose", False),
        )
        screen.plan(conversations_plan())
        screen.refusal(DataRefused("x", cause=Cause.TOO_LITTLE_DATA))
        screen.receipt(receipt())
        screen.close()
        return self.out.getvalue()


def test_a_file_has_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Streams(monkeypatch).shown().splitlines()
    assert lines[0].startswith("b.jsonl trains 2,488 steps, reaching global step 4,976, about ")
    assert lines[0].endswith("; 2 files waiting")
    assert lines[-1] == receipt().line


def test_verbose_shows_the_plan_and_the_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Streams(monkeypatch).shown(verbose=True).count("\n") > 30


def test_json_is_that_of_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Streams(monkeypatch).shown(json=True)
    assert '"event":"plan"' in out
    assert '"event":"receipt"' in out


def test_quiet_says_the_closing_line(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    assert streams.shown(quiet=True) == f"{receipt().line}\n"
    assert streams.err.getvalue() == ""


def test_steps_are_counted_from_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    screen = make_file_screen(
        "b.jsonl", 0, quiet=False, json=False, verbose=False, logging_steps=None
    )
    screen.plan(conversations_plan())
    screen.event(entry(step_done(1, first=2488)))
    screen.close()
    assert "step 1/2,488 · global 2,489/4,976" in streams.out.getvalue()
