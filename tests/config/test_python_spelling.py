"""Python spelling: arguments that a call takes as they are shown."""

import pytest

from headway.config.python_spelling import ORIGIN, python_argument, python_literal
from headway.config.resolve import resolve
from headway.config.settings import Given, example, printed_name, table


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("--max-length", "128", "max_length=128"),
        ("lora.r", "8", "lora_r=8"),
        ("continue", "notes", 'continue_run="notes"'),
        ("--lr", "2e-4", "learning_rate=0.0002"),
        ("max_time", "10m", "max_time=600.0"),
        ("bf16", "true", "bf16=True"),
        ("sample_prompts", ["a", 'b"'], 'sample_prompts=["a", "b\\""]'),
        ("batch_size", "N", 'batch_size="N"'),
        ("max_lenght", "128", "max_lenght=128"),
        ("no_such", "true", "no_such=True"),
        ("no_such", "__import__('os')", "no_such=\"__import__('os')\""),
        ("no_such", None, "no_such=None"),
    ],
)
def test_a_setting_is_an_argument(name: str, value: object, shown: str) -> None:
    assert python_argument(name, value) == shown


@pytest.mark.parametrize("row", table(), ids=printed_name)
def test_every_setting_comes_back_as_it_was_shown(row: object) -> None:
    """What is shown is Python, and means the same as the text."""
    name, text = printed_name(row), example(row)  # type: ignore[arg-type]
    shown = python_argument(name, text)
    arguments = eval(f"dict({shown})")
    typed = resolve([Given(name, text, "--x")])
    called = resolve([Given(key, value, ORIGIN) for key, value in arguments.items()])
    assert called == typed


def test_literals_are_pythons() -> None:
    for value in ("ä\n'\"", 1, 2.5, True, None, ["a", 1]):
        assert eval(python_literal(value)) == value
