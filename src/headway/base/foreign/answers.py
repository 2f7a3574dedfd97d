"""Remote answers: numbers and texts from headers and listings, as values of our own."""

import math

MAX_BYTES = 1 << 60  # of one file; no store has larger ones


def whole_number(value: object) -> int | None:
    """A number of bytes from an answer; None if it is missing or is not one.

    Args:
        value: a number, or its digits.
    """
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_BYTES else None


def duration_s(text: str) -> float | None:
    """A number of seconds from an answer; None if it is not a finite one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
