"""States of a Trainer: what they hold, which one went on from which, and odd ones."""

import json
import math
from pathlib import Path

import pytest
from tests.guard.judge.left import closing, state

from headway.base.foreign.trainer_state import NAME, read_state


def test_a_state_tells_where_it_stands(tmp_path: Path) -> None:
    found = read_state(state(tmp_path / NAME, 20, 40))
    assert (found.global_step, found.max_steps, found.num_train_epochs) == (20, 40, 1)
    assert found.steps_per_epoch == 40
    assert found.entries[-1].step == 20
    assert found.entries[-1].loss == 2.5
    assert not found.ended_without_steps
    assert not found.has_early_stopping


def test_nan_in_the_log_stays_nan(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text('{"global_step": 1, "log_history": [{"loss": NaN, "step": 1}, 5, {"step": 2}]}')
    (entry,) = read_state(path).entries
    assert entry.loss is not None
    assert math.isnan(entry.loss)


@pytest.mark.parametrize(
    ("speed", "loss", "ended"), [(0.0, 0.0, True), (3.5, 0.0, False), (0.0, 2.0, False)]
)
def test_a_training_of_no_steps_says_so(
    tmp_path: Path, speed: float, loss: float, *, ended: bool
) -> None:
    history = [closing(20, steps_per_second=speed, loss=loss)]
    found = read_state(state(tmp_path / NAME, 20, 20, log_history=history))
    assert found.ended_without_steps is ended


def test_a_state_goes_on_from_the_one_whose_log_it_begins_with(tmp_path: Path) -> None:
    first = read_state(state(tmp_path / "a", 10, 30))
    second = read_state(state(tmp_path / "b", 20, 30))
    other = read_state(state(tmp_path / "c", 20, 90))
    assert second.goes_on_from(first)
    assert second.goes_on_from(second)
    assert not first.goes_on_from(second)
    assert not other.goes_on_from(first)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"global_step": ', "\x00"])
def test_what_is_no_state_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(ValueError):
        read_state(tmp_path / NAME)


@pytest.mark.parametrize("odd", [None, "x", [], {"a": 1}, True, 1e400, "12"])
def test_odd_values_are_none(tmp_path: Path, odd: object) -> None:
    values = {"global_step": odd, "max_steps": odd, "epoch": odd, "log_history": odd}
    (tmp_path / NAME).write_text(json.dumps(values))
    assert read_state(tmp_path / NAME).global_step in (0, 12)
