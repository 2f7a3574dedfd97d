"""The optimizer: decay where it belongs, and moments that come back under their own names."""

from typing import Any

import pytest
import torch
from tests.helpers import causal

from headway.model.load import trainable
from headway.runs.plan import LearningPlan
from headway.training.optimizer import (
    make_optimizer,
    moments,
    restore_moments,
    set_learning_rate,
    without_common_counts,
)

PLAN = LearningPlan("adamw", 1e-3, "cosine", 0, 0.25, 0.8, 0.9, 1e-6, 1.0)


def stepped(model: Any, optimizer: torch.optim.Optimizer, times: int = 2) -> None:
    draws = torch.Generator().manual_seed(0)
    for _ in range(times):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=draws)
        optimizer.step()


def test_matrices_decay_and_vectors_do_not() -> None:
    parameters = trainable(causal("gpt2"))
    optimizer = make_optimizer(parameters, PLAN)
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.25, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim < 2 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(parameters)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (1e-3, (0.8, 0.9), 1e-6)


def test_matrices_alone_make_one_group() -> None:
    parameters = {n: p for n, p in trainable(causal("llama")).items() if p.ndim == 2}
    assert len(make_optimizer(parameters, PLAN).param_groups) == 1


def test_the_rate_is_set_everywhere() -> None:
    optimizer = make_optimizer(trainable(causal("llama")), PLAN)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_before_the_first_step_there_are_no_moments() -> None:
    parameters = trainable(causal("llama"))
    assert moments(make_optimizer(parameters, PLAN), parameters) == {}


def test_l09_restored_moments_go_on_as_if_nothing_had_happened() -> None:
    going, stopped = causal("llama"), causal("llama")
    first, second = (make_optimizer(trainable(model), PLAN) for model in (going, stopped))
    stepped(going, first)
    stepped(stopped, second)
    saved = {n: t.clone() for n, t in moments(second, trainable(stopped)).items()}
    saved = without_common_counts(saved, 2)
    assert not any(name.startswith("step/") for name in saved)
    fresh = make_optimizer(trainable(stopped), PLAN)
    assert restore_moments(fresh, trainable(stopped), saved, 2) == len(trainable(stopped))
    stepped(going, first)
    stepped(stopped, fresh)
    for name, p in going.named_parameters():
        assert torch.equal(p, dict(stopped.named_parameters())[name]), name


@pytest.mark.parametrize("num_updates", [0, 1])
def test_another_count_of_updates_would_be_noticed(num_updates: int) -> None:
    """The bias correction belongs to the moments."""
    going, stopped = causal("llama"), causal("llama")
    first, second = (make_optimizer(trainable(model), PLAN) for model in (going, stopped))
    stepped(going, first)
    stepped(stopped, second)
    saved = {n: t.clone() for n, t in moments(second, trainable(stopped)).items()}
    fresh = make_optimizer(trainable(stopped), PLAN)
    restore_moments(fresh, trainable(stopped), without_common_counts(saved, 2), num_updates)
    stepped(going, first)
    stepped(stopped, fresh)
    assert not torch.equal(going.lm_head.weight, stopped.lm_head.weight)


def test_moments_that_are_missing_are_not_counted() -> None:
    parameters = trainable(causal("llama"))
    optimizer = make_optimizer(parameters, PLAN)
    one = next(iter(parameters))
    saved = {
        f"{kind}/{one}": torch.zeros_like(parameters[one]) for kind in ("exp_avg", "exp_avg_sq")
    }
    assert restore_moments(optimizer, parameters, saved, 1) == 1
