"""Numbers of remote answers are numbers, or nothing."""

import pytest

from headway.base.foreign.answers import duration_s, whole_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((7, 7), ("7", 7), (" 7 ", 7), (0, 0), ("0", 0), (None, None), ("", None), (True, None)),
        *((-1, None), ("-1", None), (1.5, None), ("1.5", None), ("1_000", None), ("²", None)),
        *(("٣", None), ("9" * 25, None), (10**30, None), ([], None), ({}, None), ("nan", None)),
    ],
)
def test_a_number_of_bytes(value: object, number: int | None) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3.0), ("0.5", 0.5), ("-3", 0.0), ("nan", None), ("inf", None), ("soon", None)],
)
def test_a_number_of_seconds(text: str, number: float | None) -> None:
    assert duration_s(text) == number
