"""Setting value parsers: numbers, sizes, durations, booleans, lists."""

import math
import os
import re
import shlex
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Union, cast, get_args, get_origin

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.units import read_seconds, read_size

AUTO = 0  # where a setting takes a whole number or "auto"
FEW = -1.0  # where a setting takes a number or "few"


def convert(hint: Any, bounds: Mapping[str, Any], value: object) -> object:
    """Convert a value to the type of a setting, and check it.

    Args:
        hint: the setting's annotation: bool, int, float, str, a tuple or a Literal of texts,
            or one of these `| None`.
        bounds: its `choices`, `at_least`, `above`, `at_most` and `unit`.
        value: text, a list of texts, or a value from Python.

    Raises:
        ValueError: the value is invalid; the message says what is needed.
    """
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = [kind for kind in get_args(hint) if kind is not type(None)]
    if bounds["unit"] == "or few" and (
        value == "few" or (isinstance(value, float) and value == FEW)
    ):
        return FEW  # settings that were read are read again
    read = _READERS.get(get_origin(hint) or hint, _text)
    converted = read(value, bounds["unit"])
    if bounds["choices"] and converted not in bounds["choices"]:
        raise ValueError("one of " + ", ".join(bounds["choices"]))
    if isinstance(converted, int | float) and not isinstance(converted, bool):
        _check_bounds(bounds, converted)
    return converted


def check_utf8(words: Sequence[str]) -> None:
    """Check that words can be stored and sent: a name may be any bytes, a text may not.

    Raises:
        UsageError: a word is not UTF-8.
    """
    for word in words:
        shown = os.fsencode(word).decode(errors="replace")
        if shown != word:
            raise UsageError(
                f"{shown} is not UTF-8",
                cause=Cause.INVALID_VALUE,
                have=f"the bytes {os.fsencode(word)!r}",
                need="a name that is UTF-8",
                remedies=(
                    Remedy(
                        f"headway train {_folder_of(word)}",
                        "the folder: names inside it may be anything",
                    ),
                ),
            )


def working_folder() -> str:
    """The working folder's name.

    Raises:
        UsageError: it was removed.
    """
    try:
        return str(Path.cwd())
    except OSError as error:
        raise UsageError(
            "the working folder no longer exists",
            cause=Cause.SOURCE_NOT_FOUND,
            have=error.strerror or str(error),
            need="a folder to work in",
            remedies=(Remedy("cd ~", "then the same command again"),),
        ) from error


def _folder_of(word: str) -> str:
    """The folder of a path, if its name can be typed, and otherwise the working folder."""
    folder = os.path.dirname(word)  # noqa: PTH120 - as it was typed
    is_text = folder and os.fsencode(folder).decode(errors="replace") == folder
    return shlex.quote(folder) if is_text else "."


def _check_bounds(bounds: Mapping[str, Any], value: float) -> None:
    low, above, high = (bounds[key] for key in ("at_least", "above", "at_most"))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number")
    if low is not None and value < low:
        raise ValueError(f"at least {low:g}")
    if above is not None and value <= above:
        raise ValueError(f"more than {above:g}")
    if high is not None and value > high:
        raise ValueError(f"at most {high:g}")


def _text(value: object, _unit: str) -> str:
    if isinstance(value, PurePath):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ValueError("text")
    return value


def _integer(value: object, unit: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.replace("_", "").replace(",", "").strip()
        if unit == "or auto" and text == "auto":
            return AUTO
        if re.fullmatch(r"[+-]?\d{1,100}", text):
            return int(text)  # a float would keep only 53 bits
        if unit == "bytes" and text[-1:].isalpha():
            return _size(text)
    number = _number(value, "")
    if not math.isfinite(number) or number != int(number):
        raise ValueError("a whole number or auto" if unit == "or auto" else "a whole number")
    return int(number)


def _size(text: str) -> int:
    try:
        return read_size(text)
    except ValueError:
        raise ValueError("a whole number like 500000 or 2M") from None


def _number(value: object, unit: str) -> float:
    if isinstance(value, bool):
        raise ValueError("a number")
    if isinstance(value, int | float):
        return float(value)
    text = str(value).replace("_", "").replace(",", "")
    try:
        return float(text)
    except ValueError:
        if unit != "seconds":
            raise ValueError("a number or few" if unit == "or few" else "a number") from None
    try:
        return read_seconds(text)
    except ValueError:
        raise ValueError("a duration like 90, 10m or 1h30m") from None


def _boolean(value: object, _unit: str) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "on", "1"):
        return True
    if str(value).lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError("true or false")


def _texts(value: object, _unit: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(str(one) for one in cast("Sequence[object]", value))
    raise ValueError("a list of texts")


_READERS: dict[Any, Callable[[object, str], object]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    tuple: _texts,
    str: _text,
}
