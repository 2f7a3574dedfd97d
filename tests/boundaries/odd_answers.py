"""Odd answers of servers and stores: headers and listings with odd numbers or missing fields."""

from random import Random
from typing import Any

NUMBERS = (
    *("", " ", "abc", "-1", "-5", "1.5", "1e3", "1_000", "²", "٣", "0x10", "nan", "inf", "-inf"),
    *("9" * 25, "9" * 5000, "+3", " 7 ", "7, 7", "None", "\x00", "18446744073709551616", "0", "12"),
)
HEADERS = (
    "content-length",
    "content-range",
    "retry-after",
    "etag",
    "last-modified",
    "content-type",
)
RANGES = (
    "bytes 0-",
    "bytes ",
    "",
    "bytes */",
    "bytes 0-4/",
    "bytes ²-4/",
    "items 0-4/",
    "bytes x-y/",
)
FIELDS: tuple[Any, ...] = (None, -1, 1.5, "12", "many", [], {}, True, 10**30, float("nan"), "", 12)


def headers(draws: Random) -> dict[str, str]:
    """Headers with chance values."""
    found = {}
    for name in HEADERS:
        if draws.random() < 0.7:
            number = draws.choice(NUMBERS)
            found[name] = draws.choice(RANGES) + number if name == "content-range" else number
    return found


def object_info(draws: Random) -> dict[str, Any]:
    """An object of a store's listing, as the client hands it over."""
    info: dict[str, Any] = {"name": "bucket/key.jsonl", "type": "file"}
    for name in ("size", "ETag"):
        if draws.random() < 0.8:
            info[name] = draws.choice(FIELDS)
    return info
