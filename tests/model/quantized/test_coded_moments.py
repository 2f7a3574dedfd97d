"""Moments in 8 bits take a quarter of the memory, and come back bit for bit."""

from dataclasses import replace

import pytest
import torch
from tests.helpers import causal
from tests.training.test_optimizer import PLAN, stepped

from headway.config.optimizers import OPTIMIZERS
from headway.model.load import trainable
from headway.runs.plan import LearningPlan
from headway.training.optimizer import (
    make_optimizer,
    moments,
    restore_moments,
    without_common_counts,
)

IN_8BIT = replace(PLAN, optim="adamw_8bit")


class Matrices(torch.nn.Module):
    """One whose moments are in 8 bits, and one that is too small for it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.large = torch.nn.Parameter(torch.randn(96, 90))
        self.small = torch.nn.Parameter(torch.randn(8, 8))


def test_moments_in_8_bits_take_a_quarter_of_the_memory() -> None:
    model = Matrices()
    optimizer = make_optimizer(trainable(model), IN_8BIT)
    stepped(model, optimizer)
    kept = moments(optimizer, trainable(model))
    assert kept["exp_avg/large"].dtype == kept["exp_avg_sq/large"].dtype == torch.uint8
    assert kept["exp_avg/small"].dtype == torch.float32
    assert len(kept["exp_avg_absmax/large"]) == 34  # blocks of 256
    assert float(kept["step/small"]) == 2
    num_bytes = sum(t.nbytes for name, t in kept.items() if name.endswith("/large"))
    assert num_bytes == pytest.approx(
        OPTIMIZERS["adamw_8bit"].state_bytes(model.large.numel(), 0), rel=0.01
    )


def test_r05_moments_in_8_bits_go_on_as_if_nothing_had_happened() -> None:
    going, stopped = Matrices(), Matrices()
    first, second = (make_optimizer(trainable(model), IN_8BIT) for model in (going, stopped))
    stepped(going, first, 3)
    stepped(stopped, second, 3)
    saved = {n: t.clone() for n, t in moments(second, trainable(stopped)).items()}
    saved = without_common_counts(saved, 3)
    fresh = make_optimizer(trainable(stopped), IN_8BIT)
    assert restore_moments(fresh, trainable(stopped), saved, 3) == 2
    stepped(going, first)
    stepped(stopped, fresh)
    for name, p in going.named_parameters():
        assert torch.equal(p, dict(stopped.named_parameters())[name]), name


@pytest.mark.parametrize(("before", "after"), [(PLAN, IN_8BIT), (IN_8BIT, PLAN)])
def test_moments_of_another_optimizer_are_not_taken(
    before: LearningPlan, after: LearningPlan
) -> None:
    model = Matrices()
    first = make_optimizer(trainable(model), before)
    stepped(model, first)
    saved = moments(first, trainable(model))
    second = make_optimizer(trainable(model), after)
    assert restore_moments(second, trainable(model), saved, 2) == 1  # the small one's are alike
    assert model.large not in second.state
    stepped(model, second)


def test_matrices_decay_in_8_bits_as_they_do_in_fp32() -> None:
    optimizer = make_optimizer(trainable(causal("llama")), IN_8BIT)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)
