"""plan and train: the first line, and what has nothing to work on."""

import subprocess
import sys
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.base.version import __version__
from headway.commands.train import check_sources, first_line, plan, train
from headway.config.command_line import Arguments

FIRST = """
import sys
from headway.ui import screens

real = screens.make_screen
def make_screen(*given, **options):
    screen = real(*given, **options)
    say = screen.say
    def first(line):
        say(line)
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"torch", "numpy", "rich", "tokenizers", "transformers"}))
        print("headway.runs.plan" in sys.modules)
        sys.exit(0)
    screen.say = first
    return screen
screens.make_screen = make_screen
from headway.cli import run
run(["train", sys.argv[1], "--preset", "tiny"])
"""


def test_the_first_line_names_the_data() -> None:
    assert first_line("plan", ["a.txt"]) == f"headway {__version__} · plan a.txt"
    assert first_line("train", list("abcde")).endswith("train a b c and 2 more")


def test_f62_the_first_line_shows_no_password() -> None:
    line = first_line("train", ["s3://user:canary@b/x", "http:/user:canary@h/y?sig=canary"])
    assert line.endswith("train s3://b/x http:/h/y")


def test_the_first_line_waits_for_no_large_import(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some text")
    command = [sys.executable, "-c", FIRST, str(tmp_path / "notes.txt")]
    out = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert out.splitlines()[1:] == ["[]", "False"]


@pytest.mark.parametrize(("verb", "run"), [("plan", plan), ("train", train)])
def test_without_data_it_says_what_to_type(verb: str, run: object) -> None:
    assert callable(run)
    with pytest.raises(UsageError) as refused:
        run(Arguments())
    assert refused.value.cause is Cause.MISSING_ARGUMENT
    assert refused.value.remedies[0].do == f"headway {verb} notes.txt"


def test_with_data_it_says_nothing() -> None:
    check_sources(("notes.txt",), "train")
