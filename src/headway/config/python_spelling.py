"""Python spelling of settings: max_length=128, as headway.plan() and headway.train() take them."""

import ast
import json
from collections.abc import Sequence
from typing import cast

from headway.config.settings import hints, normalize, spellings
from headway.config.values import convert

ORIGIN = "you"  # of a setting from Python
_WORDS = {"true": True, "false": False, "": None, "null": None}


def python_argument(name: str, value: object) -> str:
    """A setting as an argument of a call.

    Args:
        name: in any spelling; one that is unknown is shown as it is.
        value: text, or a value from Python.
    """
    row = spellings().get(normalize(name))
    if row is None:
        return f"{name}={python_literal(_guessed(value))}"
    try:
        value = convert(hints()[row.name], row.metadata, value)
    except ValueError:  # a placeholder, or what is wrong with it is the message
        value = _guessed(value)
    return f"{row.name}={python_literal(value)}"


def python_literal(value: object) -> str:
    """A value as it is typed in Python."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(python_literal, cast('Sequence[object]', value)))}]"
    return repr(value)


def _guessed(value: object) -> object:
    """The value that a text stands for: a number, a boolean, nothing, or the text itself."""
    if not isinstance(value, str):
        return value
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    return found if isinstance(found, int | float) else value
