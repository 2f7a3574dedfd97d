"""Refusals in Python: remedies are arguments and calls, whatever kind of refusal it is."""

import pytest

from headway.base.errors import Cause, DataRefused, Problems, Refusal, Remedy, UsageError
from headway.config.python_errors import in_python, python_remedy
from headway.config.python_spelling import ORIGIN
from headway.config.resolve import resolve
from headway.config.settings import Given


@pytest.mark.parametrize(
    ("do", "shown"),
    [
        ("--max-length 64", "max_length=64"),
        ("--batch-size 4 --exact", "batch_size=4, exact=True"),
        ("--no-bf16", "bf16=False"),
        ("--run-name 'my notes'", 'run_name="my notes"'),
        ("--output-dir DIR", 'output_dir="DIR"'),
        (
            "headway train notes.txt --run-name notes-2 --fresh",
            'headway.train("notes.txt", run_name="notes-2", fresh=True)',
        ),
        ("headway plan a.txt 'b c.txt'", 'headway.plan(["a.txt", "b c.txt"])'),
        ("headway train more.txt --quiet", 'headway.train("more.txt", quiet=True)'),
        ("the same command again", "the same call again"),
        # what is no call and no argument stays as it is typed
        ("headway train --help", "headway train --help"),
        ("headway train run.yaml", "headway train run.yaml"),
        ("headway stop notes", "headway stop notes"),
        ("headway demo", "headway demo"),
        ("more text", "more text"),
        ("--no-such 5", "--no-such 5"),
        ("--yes", "--yes"),
        ("pip install 'headway[train]'", "pip install 'headway[train]'"),
        ("it's not closed", "it's not closed"),
        ("", ""),
    ],
)
def test_a_remedy_is_what_a_program_would_say(do: str, shown: str) -> None:
    assert python_remedy(do) == shown


def test_a_refusal_keeps_all_but_its_spelling() -> None:
    one = DataRefused(
        "too short",
        cause=Cause.TOO_LITTLE_DATA,
        have="3 tokens",
        need="4",
        remedies=(Remedy("--max-length 2", "two rows"),),
    )
    spelled = in_python(Problems((one, one)))
    assert isinstance(spelled, Problems)
    for problem in spelled.problems:
        assert type(problem) is DataRefused
        assert (problem.what, problem.have, problem.need) == ("too short", "3 tokens", "4")
        assert (problem.cause, problem.code) == (one.cause, one.code)
        assert problem.remedies == (Remedy("max_length=2", "two rows"),)


def refused(**given: object) -> Refusal:
    with pytest.raises((UsageError, Problems)) as caught:
        resolve([Given(name, value, ORIGIN) for name, value in given.items()])
    return in_python(caught.value)


def test_all_problems_of_a_call_are_told_in_python() -> None:
    error = refused(
        max_lenght=128, lr="fast", train_on_inputs=True, model="a", preset="tiny", dataset="x.txt"
    )
    text = str(error)
    assert isinstance(error, Problems)
    assert len(error.problems) == 5
    assert "--" not in text
    assert "you:" not in text
    for line in (
        "try   max_length=128 ",
        "try   learning_rate=0.0002 ",
        "try   assistant_only_loss=False ",
        'try   headway.train("x.txt") ',
        "model and preset cannot be combined",
    ):
        assert line in text
