"""Objects of an array, one after the other, without ever holding the array."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.formats import json as json_rows
from headway.data.formats.json import values
from headway.data.formats.records import DamagedError

LEAF = st.none() | st.integers() | st.text() | st.sampled_from(['"', "\\", "[{", "}]", "\\\\", ","])
OBJECT = st.dictionaries(
    st.text(max_size=3),
    st.recursive(LEAF, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one)),
    max_size=3,
)
CUTS = st.lists(st.integers(0, 300), max_size=6)


def found(content: bytes, cuts: list[int] | None = None) -> list[tuple[int, bytes]]:
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts or []), len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(edges)]
    return list(values(iter(pieces)))


@given(st.lists(OBJECT, max_size=4), CUTS, st.sampled_from([None, 1]), st.booleans())
def test_the_objects_of_an_array_are_found_however_they_are_written_and_arrive(
    rows: list[dict[str, Any]], cuts: list[int], indent: int | None, is_ascii: bool
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=is_ascii).encode(errors="replace")
    values_found = [json.loads(raw) for _, raw in found(content, cuts)]
    assert values_found == json.loads(content)


@given(st.lists(OBJECT, min_size=1, max_size=4), CUTS)
def test_objects_that_follow_one_another_are_found(
    rows: list[dict[str, Any]], cuts: list[int]
) -> None:
    content = b" \n".join(json.dumps(row, indent=2).encode() for row in rows)
    assert [json.loads(raw) for _, raw in found(content, cuts)] == rows


def test_a_string_may_be_cut_anywhere() -> None:
    first, second = b'{"a\\\\": "\\"]}\\\\"}', b'{"b": 1}'
    content = b"[" + first + b", " + second + b"]"
    for cut in range(len(content)):
        assert [raw for _, raw in found(content, [cut])] == [first, second]


def test_every_object_has_the_line_that_it_begins_in() -> None:
    assert found(b'\n[\n  {"a": 1},\n  {"b":\n 2}, {"c": 3}\n,\n\n 7 ]') == [
        (3, b'{"a": 1}'),
        (4, b'{"b":\n 2}'),
        (5, b'{"c": 3}'),
        (8, b"7"),
    ]


@pytest.mark.parametrize(
    ("content", "raw"),
    [
        (b'[{"a": 1} junk, {"b": 2}]', [b'{"a": 1}', b"junk", b'{"b": 2}']),
        (b'[{"a": 1}] junk', [b'{"a": 1}', b"junk"]),
        (b'[1, "a, b", {"a": 1}]', [b'1, "a, b"', b'{"a": 1}']),
        (b'[{bad}, {"b": 2}]', [b"{bad}", b'{"b": 2}']),
        (b'[{"a": 1}, [2], {"b": 2}]', [b'{"a": 1}', b"[2]", b'{"b": 2}']),
        (b'[{"a": 1}][{"b": 2}]', [b'{"a": 1}', b'[{"b": 2}]']),
        (b"}]", [b"}]"]),
        (b"[]", []),
        (b"", []),
    ],
)
def test_F51_what_stands_between_objects_is_not_lost(content: bytes, raw: list[bytes]) -> None:
    assert [value for _, value in found(content)] == raw


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'[{"a": 1},\n{"b": ', "inside the row that begins on line 2"),
        (b'[{"a": 1},\n{"b": "c', "inside the row that begins on line 2"),
        (b'[{"a": 1},\n', "inside the array, after line 1"),
        (b'{"a": "\\', "inside the row that begins on line 1"),
    ],
)
def test_D09_an_array_that_breaks_off_is_damaged(content: bytes, where: str) -> None:
    with pytest.raises(DamagedError, match=where):
        found(content)


def test_F51_ten_thousand_levels_are_found_and_an_endless_row_is_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep = b'{"text": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert found(b"[" + deep + b"]") == [(1, deep)]
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 1000)
    with pytest.raises(DamagedError, match="inside the row that begins on line 1"):
        found(b'[{"text": "' + b"x" * 2000, [500, 1200])


def test_a_row_in_many_pieces_is_read_in_linear_time() -> None:
    row = b'{"text": "' + b"\\u00e9 " * 2_000_000 + b'"}'
    pieces = [row[at : at + 65536] for at in range(0, len(row), 65536)]
    assert [raw for one in values(iter(pieces)) if one for raw in one[1:]] == [row]
