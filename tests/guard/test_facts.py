"""Which lines of output are about training."""

import pytest

from headway.guard.facts import ProgressRecord


@pytest.mark.parametrize(
    ("record", "is_of_training"),
    [
        (ProgressRecord(1.0, step=3, total=9, is_bar=True), True),
        (ProgressRecord(1.0, step=3, total=9, is_bar=True, what="Map"), False),
        (ProgressRecord(1.0, step=3, total=9, is_bar=True, what="Epoch 1", epoch=1.0), True),
        (ProgressRecord(1.0, loss=2.5), True),
        (ProgressRecord(1.0, loss=2.5, is_evaluation=True), False),
    ],
)
def test_what_is_of_training(record: ProgressRecord, *, is_of_training: bool) -> None:
    assert record.is_of_training is is_of_training
