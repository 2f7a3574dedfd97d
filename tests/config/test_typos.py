"""Typos: a slip or two are recognized, anything else is not guessed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.config.settings import spellings
from headway.config.typos import distance, nearest

OURS = [name for name in spellings() if len(name) >= 4]


@pytest.mark.parametrize(
    ("one", "other", "slips"),
    [
        ("", "", 0),
        ("seed", "seed", 0),
        ("sed", "seed", 1),
        ("seeed", "seed", 1),
        ("sead", "seed", 1),
        ("sede", "seed", 1),
        ("ca", "abc", 3),
        ("deepspeed", "seed", 5),
        ("", "abc", 3),
    ],
)
def test_slips_are_counted(one: str, other: str, slips: int) -> None:
    assert distance(one, other) == distance(other, one) == slips


@pytest.mark.parametrize("name", OURS)
def test_one_slip_is_recognized_in_every_name(name: str) -> None:
    middle = len(name) // 2
    swapped = f"{name[: middle - 1]}{name[middle]}{name[middle - 1]}{name[middle + 1 :]}"
    for typed in (
        swapped,
        f"{name[:middle]}x{name[middle:]}",
        f"{name[:middle]}{name[middle + 1 :]}",
    ):
        if typed not in spellings():
            near = nearest(typed, spellings())
            assert near
            assert distance(typed, near) <= 1


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("max_lenght", "max_length"),
        ("bacth_size", "batch_size"),
        ("lorra", "lora"),
        ("learnign_raet", "learning_rate"),
        ("num_train_epoch", "num_train_epochs"),
        ("ls", None),
        ("val_file", None),
        ("vocab_file", None),
        ("batchsize", "batch_size"),
        ("save_mintues", "save_minutes"),
        ("deepspeed", None),
        ("overwrite_dir", None),
        ("stage", None),
        ("resume", None),
        ("outputs", None),
    ],
)
def test_nothing_is_guessed_farther_than_a_typo(typed: str, ours: str | None) -> None:
    assert nearest(typed, spellings()) == ours


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_the_nearest_is_one_of_the_known_and_within_two_slips(a: str, b: str, c: str) -> None:
    near = nearest(a, [b, c])
    assert near is None or (near in (b, c) and distance(a, near) <= 2)
    assert all(distance(x, y) >= abs(len(x) - len(y)) for x, y in itertools.pairwise([a, b, c]))
