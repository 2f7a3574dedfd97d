"""Curves of training from output, states and event files; what is about evaluation stays out."""

from pathlib import Path

import pytest
from tests.guard.judge.left import losses_of, state

from headway.base.foreign.trainer_state import read_state
from headway.guard.facts import ProgressRecord
from headway.guard.judge.traces.curves import of_events, of_output, of_state
from headway.guard.judge.traces.event_files import Scalar


def test_bars_that_are_drawn_again_count_once() -> None:
    bars = [
        ProgressRecord(at, step=at // 3, total=9, loss=2.5 - at // 3, is_bar=True)
        for at in range(9)
    ]
    closing = ProgressRecord(9.0, loss=0.0, run_seconds=1.5)
    evaluation = ProgressRecord(9.0, loss=9.0, is_evaluation=True)
    found = of_output([*bars, evaluation, closing], ())
    assert found.losses == ((0, 2.5), (1, 1.5), (2, 0.5))


@pytest.mark.parametrize(
    ("line", "is_rounded"),
    [
        ("step 3 loss 0.0000", True),
        ("lr: 0.000000", True),
        ("{'loss': '0', 'learning_rate': '0'}", False),
        ("{'loss': 0.0, 'grad_norm': nan}", False),
        ("loss 0.0000312", False),
        ("loss: 0.000e+00", False),
    ],
)
def test_rounded_zeros_are_known_by_their_digits(line: str, *, is_rounded: bool) -> None:
    assert of_output(losses_of(0.0), (line,)).is_rounded is is_rounded


def test_a_resumed_state_begins_where_it_resumed(tmp_path: Path) -> None:
    found = of_state(read_state(state(tmp_path / "s", 5, 10)), 3, "s")
    assert [step for step, _ in found.losses] == [4, 5]
    assert [rate for _, rate in found.rates] == [1e-4, 1e-4]


def test_tags_of_training_make_the_points_of_events() -> None:
    tags = {
        "train/loss": 2.0,
        "train/learning_rate": 1e-3,
        "train/grad_norm": 0.5,
        "eval/loss": 9.0,
        "val_loss": 9.0,
        "train/train_loss": 7.0,
        "epoch": 1.0,
    }
    found = of_events([Scalar(tag, 4, value) for tag, value in tags.items()], Path("e"))
    (point,) = found.points
    assert (point.step, point.loss, point.learning_rate, point.grad_norm) == (4, 2.0, 1e-3, 0.5)
    assert of_events([Scalar("train_loss", 1, 3.0)], Path("e")).losses == ((1, 3.0),)
