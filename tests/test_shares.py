from types import SimpleNamespace
from typing import Any

import pytest
from tests.shares import in_shares


def _items(**files: int) -> list[Any]:
    """So many tests in each file; `a__b` is a/b."""
    return [
        SimpleNamespace(nodeid=f"tests/{name.replace('__', '/')}.py::test_{n}")
        for name, num in files.items()
        for n in range(num)
    ]


def _order(items: list[Any], num_shares: int) -> list[str]:
    """The file of each test, in order."""
    return [one.nodeid.removeprefix("tests/").partition(".py")[0] for one in items]


def test_each_share_begins_with_slow_files_and_ends_with_quick_ones():
    items = _items(base__test_a=4, stories__test_b=1, stories__test_c=2, test_d=3)
    assert _order(in_shares(items, 2), 2) == [
        "stories/test_b", *["base/test_a"] * 4,
        *["stories/test_c"] * 2, *["test_d"] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize("num_shares", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"test_a": 1},
        {"stories__test_a": 7},
        {"stories__test_a": 30, "failures__test_b": 1, "base__test_c": 2},
        {"base__test_a": 50, "test_api": 3, "examples__test_b": 2},
    ],
)
def test_no_test_is_lost_or_run_twice(files: dict[str, int], num_shares: int):
    items = _items(**files)
    shared = in_shares(items, num_shares)
    assert sorted(one.nodeid for one in shared) == sorted(one.nodeid for one in items)
    assert len({id(one) for one in shared}) == len(items)


def test_a_file_stays_in_one_piece_and_in_its_order():
    items = _items(stories__test_a=5, stories__test_b=4, stories__test_c=3, test_d=20)
    shared = [one.nodeid for one in in_shares(items, 3) if "stories" in one.nodeid]
    assert shared == [one.nodeid for one in items if "stories" in one.nodeid]
