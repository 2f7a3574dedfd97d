"""The loop: what is yielded is finished, and nothing is taken before it is asked for."""

from typing import Any

import pytest

from headway.data.batching.batches import Batch
from headway.training.step import train_steps


def batches(num: int) -> list[Batch]:
    return [Batch(step, 0, (), 1, 1, 1, 1) for step in range(1, num + 1)]


def test_every_batch_is_a_finished_step_in_order() -> None:
    done: list[int] = []

    def take(batch: Batch) -> Any:
        done.append(batch.step)
        return f"report {batch.step}"

    for batch, report in train_steps(batches(4), take):
        assert done[-1] == batch.step  # its update is in the weights
        assert len(done) == batch.step  # and that of no later one
        assert report == f"report {batch.step}"
    assert done == [1, 2, 3, 4]


def test_a_step_that_fails_is_not_yielded() -> None:
    def take(batch: Batch) -> Any:
        if batch.step == 3:
            raise ZeroDivisionError
        return batch.step

    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(batch.step for batch, _ in train_steps(batches(4), take))
    assert seen == [1, 2]


def test_whoever_stops_looking_stops_the_training() -> None:
    done: list[int] = []

    def take(batch: Batch) -> Any:
        done.append(batch.step)
        return None

    for batch, _ in train_steps(batches(4), take):
        if batch.step == 2:
            break
    assert done == [1, 2]
