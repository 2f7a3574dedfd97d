"""What a row says about its training as a whole is done, or the row is left out."""

from typing import Any

import pytest

from headway.data.formats.fields.row_flags import ROW_FLAGS, check_row_flags
from headway.data.formats.records import Record, Rejected, RejectReason, UnfitError
from headway.data.formats.row_formats import record_of_fields

ROWS: tuple[dict[str, Any], ...] = (
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"prompt": "a", "completion": "b"},
    {"question": "a", "answer": "b"},
    {"text": "a"},
)
INVERTED = ("masked", "is_masked", "skip_training")


def check(**fields: Any) -> tuple[str, ...]:
    return check_row_flags(fields, tuple(fields))


def reason(**fields: Any) -> RejectReason:
    with pytest.raises(UnfitError) as caught:
        check(**fields)
    return caught.value.reason


@pytest.mark.parametrize("row", ROWS, ids=lambda row: next(iter(row)))
@pytest.mark.parametrize("name", ROW_FLAGS)
@pytest.mark.parametrize("value", [False, 0, "false", "0"])
def test_a_row_that_is_not_to_be_trained_is_left_out(
    row: dict[str, Any], name: str, value: object
) -> None:
    value = not value if name in INVERTED and not isinstance(value, str) else value
    value = (
        {"false": "true", "0": "1"}[str(value)]
        if name in INVERTED and isinstance(value, str)
        else value
    )
    found = record_of_fields("f", 1, row | {name: value})
    assert isinstance(found, Rejected)
    assert found.reason is RejectReason.ROW_UNTRAINED


@pytest.mark.parametrize("name", ROW_FLAGS)
def test_a_row_that_is_to_be_trained_is(name: str) -> None:
    assert check(**{name: name not in INVERTED}) == ()
    assert check(**{name: None}) == ()


@pytest.mark.parametrize("value", [0.5, 1.93, 70, "heavy"])
@pytest.mark.parametrize("name", ["weight", "loss"])
def test_a_number_that_is_no_flag_is_not_read_and_says_so(name: str, value: object) -> None:
    assert check(**{name: value}) == (name,)
    found = record_of_fields("f", 1, {"text": "a", name: value})
    assert isinstance(found, Record)
    assert found.unread == (name,)


@pytest.mark.parametrize(
    "flags",
    [{"train_on_input": False}, {"train_on_inputs": "false"}, {"assistant_only_loss": True},
     {"completion_only_loss": 1}, {"mask_prompt": True}, {"mask": "User"}, {"mask": "human"},
     {"unmask": False}],
)  # fmt: skip
def test_what_is_done_anyway_is_accepted(flags: dict[str, Any]) -> None:
    assert check(**flags) == ()


@pytest.mark.parametrize(
    "flags",
    [{"train_on_input": True}, {"train_on_prompt": 1}, {"assistant_only_loss": False},
     {"mask": "Assistant"}, {"mask": [1, 0]}, {"mask": True}, {"mask_prompt": "no"},
     {"unmask": True}],
)  # fmt: skip
def test_what_a_single_row_cannot_ask_for_is_refused(flags: dict[str, Any]) -> None:
    assert reason(**flags) is RejectReason.FLAG_UNKNOWN


def test_flags_that_contradict_each_other_are_refused() -> None:
    assert reason(train=True, masked=True) is RejectReason.FLAGS_CONTRADICT


def test_nan_is_refused() -> None:
    assert reason(weight=float("nan")) is RejectReason.NAN
