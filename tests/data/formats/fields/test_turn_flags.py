"""Every tool's way to say that a turn is context only becomes one: `train: false`."""

from typing import Any

import pytest

from headway.data.formats.fields.turn_flags import flag_names, trained_if, with_one_flag
from headway.data.formats.records import RejectReason, UnfitError

TURN = {"role": "assistant", "content": "ho"}
POSITIVE = (
    *("train", "loss", "weight", "loss_mask", "trainable", "training", "is_trainable"),
    *("isTrainable", "loss_weight", "loss_scale", "compute_loss", "output_with_loss", "learn"),
)
NEGATIVE = ("masked", "is_masked", "isMasked", "no_loss", "ignore_loss", "context_only")
NO = (False, 0, 0.0, "false", "False", "0", "no", "off")
YES = (True, 1, 1.0, "true", "TRUE", "1", "yes", "on")


def flagged(**flags: Any) -> dict[str, Any]:
    return with_one_flag(TURN | flags)


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", NO)
def test_a_turn_that_is_not_to_be_trained_is_not(name: str, value: object) -> None:
    assert flagged(**{name: value}) == TURN | {"train": False}
    assert not trained_if(name, False)


@pytest.mark.parametrize("name", NEGATIVE)
@pytest.mark.parametrize("value", YES)
def test_a_masked_turn_is_not_trained(name: str, value: object) -> None:
    assert flagged(**{name: value}) == TURN | {"train": False}
    assert not trained_if(name, True)


@pytest.mark.parametrize("name", [*POSITIVE, *NEGATIVE])
def test_a_turn_that_is_to_be_trained_is(name: str) -> None:
    for value in YES if name in POSITIVE else NO:
        assert flagged(**{name: value}) == TURN | {"train": True}


@pytest.mark.parametrize("name", [*POSITIVE, *NEGATIVE])
@pytest.mark.parametrize("value", [None, ""])
def test_a_flag_without_a_value_says_nothing(name: str, value: object) -> None:
    assert flagged(**{name: value}) == TURN


@pytest.mark.parametrize("name", ["weight", "loss", "train", "masked"])
@pytest.mark.parametrize("value", [0.5, 2, -1, "half", [0, 1], {"a": 1}])
def test_a_flag_that_is_neither_true_nor_false_is_refused(name: str, value: object) -> None:
    with pytest.raises(UnfitError) as caught:
        flagged(**{name: value})
    assert caught.value.reason is RejectReason.FLAG_UNCLEAR
    assert name in caught.value.detail


@pytest.mark.parametrize(
    "flags",
    [{"train": True, "weight": 0}, {"loss": "no", "trainable": 1}, {"train": 1, "masked": True}],
)
def test_flags_that_contradict_each_other_are_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(UnfitError) as caught:
        flagged(**flags)
    assert caught.value.reason is RejectReason.FLAGS_CONTRADICT
    assert all(name in caught.value.detail for name in flags)


def test_flags_that_agree_are_one() -> None:
    assert flagged(train=False, weight=0, masked=True) == TURN | {"train": False}


@pytest.mark.parametrize(
    "flags",
    [
        {"mask": 1},
        {"my_loss_flag": False},
        {"untrain_me": True},
        {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]},
    ],
)
def test_a_flag_that_nobody_knows_is_refused_and_never_ignored(flags: dict[str, Any]) -> None:
    with pytest.raises(UnfitError) as caught:
        flagged(**flags)
    assert caught.value.reason is RejectReason.FLAG_UNKNOWN


def test_a_key_that_only_sounds_like_a_flag_stays_for_the_template() -> None:
    assert flagged(training_note="see page 3") == TURN | {"training_note": "see page 3"}
    assert flagged(name="a") == TURN | {"name": "a"}
    assert flag_names("role", "content", "name", "id") == ()
