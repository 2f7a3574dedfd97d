"""plan and train: the first line, and what has nothing to work on."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, UsageError
from headway.base.version import __version__
from headway.commands.train import (
    VERBS,
    check_sources,
    first_line,
    how_to_start,
    plan,
    plan_for_gpu,
    saved_as,
    train,
)
from headway.config.command_line import Arguments, parse
from headway.config.settings import Settings

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


def typed(*words: str) -> Settings:
    return parse(words, VERBS["plan"].options, settings=True).settings()[1]


@pytest.mark.parametrize(
    ("run", "words", "name", "folder"),
    [
        ("days", (), "days", "runs"),
        ("days", ("--output-dir", "/big"), "days", "/big"),
        ("days", ("--run-name", "days"), "days", "runs"),
        ("runs/days", (), "days", "runs"),
        ("runs/days/", ("--output-dir", "runs/"), "days", "runs"),
        ("/shared/runs/days", (), "days", "/shared/runs"),
        ("./days", (), "days", "."),
        ("../days", (), "days", ".."),
        ("/days", (), "days", "/"),
    ],
)
def test_a_saved_plan_has_a_name_and_a_folder(
    run: str, words: tuple[str, ...], name: str, folder: str
) -> None:
    settings = saved_as(run, typed(*words))
    assert (settings.run_name, settings.output_dir) == (name, folder)
    assert settings.origin("run_name") == "--save"
    typed_folder = "--output-dir" if words[:1] == ("--output-dir",) else "default"
    assert settings.origin("output_dir") == ("--save" if "/" in run else typed_folder)


@pytest.mark.parametrize("run", ["", ".", "..", "runs/..", "/", "a:b", "runs/-x", " x", "x" * 130])
def test_what_is_no_name_of_a_run_is_refused_with_one_that_is(run: str) -> None:
    with pytest.raises(UsageError) as refused:
        saved_as(run, typed())
    assert refused.value.cause is Cause.INVALID_VALUE
    words = refused.value.remedies[0].do.split()
    assert words[0] == "--save"
    assert saved_as(words[1], typed()).run_name == words[1]


@pytest.mark.parametrize(
    ("run", "words"),
    [("days", ("--run-name", "notes")), ("runs/days", ("--output-dir", "/big"))],
)
def test_two_names_or_two_folders_are_refused(run: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        saved_as(run, typed(*words))
    assert refused.value.cause is Cause.CONTRADICTION
    assert [one.do for one in refused.value.remedies] == [f"remove {words[0]}", "remove --save"]


def test_a_saved_plan_comes_with_the_line_that_starts_it() -> None:
    line = how_to_start(conversations_plan(), Path("my runs/days"))
    assert line == (
        "saved 'my runs/days' · torchrun --nproc-per-node 1"
        " -m headway.training.worker 'my runs/days' starts it"
    )


@pytest.mark.parametrize("given", ["", "lots", "12", "50MB", "-1GB"])
def test_a_size_that_is_no_gpu_is_told_what_one_is(given: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan_for_gpu(Arguments(switches={"gpu": given}), (), Settings())
    assert refused.value.need == "the memory of a GPU, such as 12GB or 80GB"
    assert refused.value.have == (given or "no value")
    (remedy,) = refused.value.remedies
    assert remedy.do == "--gpu 12GB"
