"""Learning rates that schedulers of transformers and torch will give."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers import get_scheduler

from headway.integrations.learning_rates import planned_rates


def optimizer(rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "constant_with_warmup"])
def test_they_are_what_the_steps_then_have(name: str) -> None:
    made = optimizer()
    scheduler = get_scheduler(name, made, num_warmup_steps=3, num_training_steps=12)
    found = planned_rates(scheduler, 12)
    rates = []
    for _ in range(12):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        scheduler.step()
    assert found is not None
    assert (found.base, found.first, found.peak) == (0.1, rates[0], max(rates))
    assert found.last == pytest.approx(rates[-1])
    assert found.mean == pytest.approx(sum(rates) / 12)


def test_they_begin_where_the_scheduler_stands() -> None:
    made = optimizer()
    scheduler = get_scheduler("linear", made, num_warmup_steps=0, num_training_steps=10)
    for _ in range(4):
        made.step()
        scheduler.step()
    found = planned_rates(scheduler, 6)
    assert found is not None
    assert found.first == made.param_groups[0]["lr"] == pytest.approx(0.06)


def test_a_long_run_is_sampled_with_its_first_and_last_step() -> None:
    found = planned_rates(LambdaLR(optimizer(1.0), lambda step: step / 1e6), 1_000_000)
    assert found is not None
    assert (found.first, found.last) == (0.0, pytest.approx(1.0, abs=1e-5))
    assert found.mean == pytest.approx(0.5, abs=1e-3)


def fails(step: int) -> float:
    raise ValueError


@pytest.mark.parametrize(
    "scheduler",
    [ReduceLROnPlateau(optimizer()), LambdaLR(optimizer(), lambda step: 1.0), None],
    ids=["plateau", "unreadable", "none"],
)
def test_a_scheduler_that_does_not_say_is_not_guessed(scheduler: Any) -> None:
    if isinstance(scheduler, LambdaLR):
        scheduler.lr_lambdas = [fails]
    assert planned_rates(scheduler, 4) is None
