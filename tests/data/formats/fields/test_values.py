"""Field values are read as what tools mean by them, and nothing else."""

import math

import pytest

from headway.data.formats.fields.values import (
    as_flag,
    drop_nulls,
    from_json,
    has_nan,
    is_missing,
    is_shallow,
)


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "True", " YES ", "1", "on", "y"])
def test_yes_in_every_spelling(value: object) -> None:
    assert as_flag(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "FALSE", "no", "0", "off", "n", "0.0"])
def test_no_in_every_spelling(value: object) -> None:
    assert as_flag(value) is False


@pytest.mark.parametrize("value", [0.5, 2, -1, "maybe", "", None, [], [1], {}, math.nan])
def test_anything_else_is_neither(value: object) -> None:
    assert as_flag(value) is None


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_what_stands_for_no_value(value: object) -> None:
    assert is_missing(value)
    assert not is_missing(0)
    assert not is_missing(False)


def test_nan_is_found_at_any_depth() -> None:
    assert has_nan({"a": [1, {"b": math.inf}]})
    assert not has_nan({"a": [1, {"b": 2.5, "c": "NaN"}]})


def test_json_text_is_decoded_and_everything_else_stays() -> None:
    assert from_json('[{"a": 1}]') == [{"a": 1}]
    assert from_json("hi there") == "hi there"
    assert from_json([1]) == [1]


def test_null_keys_are_dropped_and_nulls_in_lists_stay() -> None:
    assert drop_nulls({"a": None, "b": [{"c": None, "d": 0}, None]}) == {"b": [{"d": 0}, None]}


def test_depth_counts_lists_and_objects() -> None:
    assert is_shallow({"a": [1]}, 2)
    assert not is_shallow({"a": [[1]]}, 2)
