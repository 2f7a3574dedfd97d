"""The lists inside an object are found, whatever is in strings, and wherever a piece ends."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data.formats.outline import Outline, RowList

ROW = {"text": "a"}


def outline(value: object, piece: int = 1 << 20, indent: int | None = None) -> Outline:
    made, content = Outline(), json.dumps(value, indent=indent).encode()
    for at in range(0, len(content), piece):
        made.feed(content[at : at + piece])
    return made


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(['"', "\\", "]}", "[{", ","]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def lists_of(value: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, list):
        first = next((one for one in value if isinstance(one, dict | list)), None)
        return [(path, first)]
    if isinstance(value, dict):
        return [one for key, inner in value.items() for one in lists_of(inner, (*path, key))]
    return []


@settings(max_examples=300)
@given(
    value=st.dictionaries(st.text(max_size=3), JSON, max_size=4),
    piece=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
)
def test_the_lists_are_those_of_the_decoded_object(
    value: dict[str, Any], piece: int, indent: int | None
) -> None:
    made = outline(value, piece, indent)
    content = json.dumps(value, indent=indent).encode()
    found = [(one.path, json.loads(one.first) if one.first else None) for one in made.lists]
    assert found == lists_of(value)
    assert all(content[one.begin : one.begin + 1] == b"[" for one in made.lists)
    assert made.is_closed


def test_a_walk_goes_on_after_a_value() -> None:
    made = Outline(("a", "b"))
    made.feed(b', "c": [{"text": "x"}]}, "d": [[]], "e": 1} ')
    assert [(one.path, one.first) for one in made.lists] == [
        (("a", "c"), b'{"text": "x"}'),
        (("d",), b"[]"),
    ]
    assert made.is_closed
    cut = Outline(("a",))
    cut.feed(b', "b": 1')
    assert not cut.is_closed


@pytest.mark.parametrize(
    ("first", "has_rows", "inner"),
    [
        (ROW, True, ""),
        ({"id": 1, "row": ROW}, True, "row"),
        ({"a": ROW, "b": ROW}, False, ""),
        ({"id": 1}, False, ""),
        ([{"role": "user", "content": "a"}], True, ""),
        ([{"from": "human", "value": "a"}], True, ""),
        ([1], False, ""),
        ([], False, ""),
    ],
)
def test_a_list_has_rows_if_its_first_element_has_their_fields(
    first: object, has_rows: bool, inner: str
) -> None:
    made = RowList(("a", "b"), 0, json.dumps(first).encode())
    assert (made.has_rows, made.inner, made.name) == (has_rows, inner, "a.b")
    assert made.has_objects == isinstance(first, dict)
