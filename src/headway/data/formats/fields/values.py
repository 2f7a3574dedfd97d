"""Field values: checks and conversions that every row format uses."""

import math
import reprlib
from typing import Any, TypeGuard, cast

import msgspec

DEEPEST = 50  # levels of lists and objects inside a message
_TRUE = frozenset(("true", "t", "yes", "y", "on", "1", "1.0"))
_FALSE = frozenset(("false", "f", "no", "n", "off", "0", "0.0"))


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a list."""
    return isinstance(value, list)


def is_list_of_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value is a list of objects; an empty list is."""
    return is_list(value) and set(map(type, value)) <= {dict}


def is_missing(value: object) -> bool:
    """Whether a value stands for no value: null, empty text or an empty list."""
    return value is None or value in ("", [], {})


def is_shallow(value: object, levels: int = DEEPEST) -> bool:
    """Whether lists and objects are nested at most `levels` deep."""
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    else:
        return True
    nested = [one for one in inner if isinstance(one, dict | list)]
    return levels > 0 and all(is_shallow(one, levels - 1) for one in nested)


def has_nan(value: object) -> bool:
    """Whether a number inside a value is NaN or infinite."""
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if isinstance(value, list):
        return any(map(has_nan, cast("list[object]", value)))
    return isinstance(value, float) and not math.isfinite(value)


def as_flag(value: object) -> bool | None:
    """A value as yes or no: a boolean, 0 or 1, or a word for them; None if it is none of these."""
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return None


def from_json(value: object) -> Any:
    """Decode a value that a tool wrote as JSON text; return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value


def drop_nulls(value: Any) -> Any:
    """Drop null keys: in a column, a message has every key that any message in it has."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [drop_nulls(one) if isinstance(one, dict | list) else one for one in items]
    if isinstance(value, dict):
        return {
            key: drop_nulls(one) if isinstance(one, dict | list) else one
            for key, one in cast("dict[str, Any]", value).items()
            if one is not None
        }
    return value


def shorten(value: object) -> str:
    """The repr of a value, kept short however long or deep the value is."""
    short = reprlib.Repr()
    short.maxstring = 80
    return short.repr(value)
