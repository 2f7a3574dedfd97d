"""Commands of other tools: each gets a command that exists, and none that replaces a run."""

import pytest

from headway.base.errors import Cause, UsageError
from headway.cli import VERBS as OURS
from headway.cli import run
from headway.config.command_line import parse
from headway.config.other_tools.verbs import VERBS


@pytest.mark.parametrize("word", VERBS)
def test_each_command_gets_one_of_ours_with_arguments_that_it_takes(word: str) -> None:
    assert word not in OURS
    meaning = VERBS[word]
    assert meaning.need
    for remedy in meaning.remedies:
        headway, verb, *rest = remedy.do.split()
        assert headway == "headway"
        parse(rest, OURS[verb].options, settings=OURS[verb].settings)


@pytest.mark.parametrize("word", ["resume", "Resume", "unpause"])
def test_to_resume_is_the_same_command_again_never_a_restore(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    told = capsys.readouterr().err
    assert "the same command resumes its run" in " ".join(told.split())
    assert "restore" not in told


@pytest.mark.parametrize(
    ("word", "tried"),
    [("trian", "headway train"), ("stauts", "headway status"), ("evla", "headway eval")],
)
def test_a_typo_gets_the_command_it_was_meant_to_be(
    word: str, tried: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    assert f"try   {tried}" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["reset", "serv", "exporter", "x", "stopwatch"])
def test_nothing_is_guessed_farther_than_a_typo(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    told = capsys.readouterr().err
    assert [line.split() for line in told.splitlines() if " try " in line] == [
        ["try", "headway", "--help"]
    ]


def test_the_cause_is_an_unknown_command() -> None:
    from headway import cli

    with pytest.raises(UsageError) as refusal:
        raise cli._unknown_verb("resume")
    assert refusal.value.cause is Cause.UNKNOWN_COMMAND
