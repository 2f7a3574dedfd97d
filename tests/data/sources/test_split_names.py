"""Of several parts of a data set, the one for training is chosen, or none."""

import pytest

from headway.data.sources.split_names import choose_split


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["anything"], 0),
        (["test"], 0),
        (["train", "test"], 0),
        (["validation", "Train", "test"], 1),
        (["dev", "held_out", "training"], 2),
        (["train", "extra"], None),
        (["train", "training"], None),
        (["a", "b"], None),
        (["test", "validation"], None),
        ([], None),
    ],
)
def test_the_part_for_training(names: list[str], chosen: int | None) -> None:
    assert choose_split(names) == chosen
