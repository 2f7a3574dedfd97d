"""Hours of a day: over midnight, and what is no part of a day."""

from datetime import time

import pytest

from headway.inbox.neighbor.hours import read_hours


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
        ("9-17", ["09:00", "16:59"], ["08:59", "17:00", "00:00"]),
        ("00:00-06:30", ["00:00", "06:29"], ["06:30", "23:59"]),
        ("18:00 - 24:00", ["18:00", "23:59"], ["00:00", "17:59"]),
    ],
)
def test_hours_may_reach_over_midnight(text: str, inside: list[str], outside: list[str]) -> None:
    hours = read_hours(text)
    assert all(time.fromisoformat(one) in hours for one in inside)
    assert not any(time.fromisoformat(one) in hours for one in outside)
    assert read_hours(str(hours)) == hours


@pytest.mark.parametrize(
    "text", ["", "22", "22:00", "22:00-", "25-7", "7-7", "0-24", "22:60-7", "22:00-07:00 x", "-7-9"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        read_hours(text)
