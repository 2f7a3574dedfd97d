"""Evaluation: the loss of every trained token, measured without leaving a trace."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import causal, micro_of
from tests.training.dispatched import HostReads

from headway.base.pulse import Pulse
from headway.model.forward import Forward
from headway.model.load import with_lora
from headway.runs.receipt import Measured
from headway.training.distributed.team import StepDropped
from headway.training.evaluation.evaluate import mean_of, measure_loss, sum_losses

MICROS = (micro_of(3, 5, every=1), micro_of(4, 9, 11, seed=1), micro_of(2, seed=2))


def dropping() -> Any:
    """A model that draws chance numbers whenever it is in training mode."""
    model: Any = with_lora(
        causal("llama"), r=2, alpha=4, dropout=0.5, target_modules=("all-linear",), seed=1
    )
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.1)
    return model


def test_the_loss_is_that_of_every_trained_token() -> None:
    forward = Forward(causal("llama"))
    with torch.no_grad():
        losses = torch.cat([forward.losses(micro) for micro in MICROS]).double().numpy()
    found = measure_loss(forward, MICROS, Pulse())
    assert found.mean == pytest.approx(losses.mean(), rel=1e-6)
    assert found.error == pytest.approx(losses.std() / np.sqrt(len(losses)), rel=1e-6)
    assert found.rows == 6


def test_g02_no_logits_are_kept() -> None:
    kept: list[Any] = []

    class Losses(Forward):
        def losses(self, micro: Any) -> torch.Tensor:
            found = super().losses(micro)
            kept.append(found)
            return found

    measure_loss(Losses(causal("llama")), MICROS, Pulse())
    assert all(losses.grad_fn is None and losses.ndim == 1 for losses in kept)


@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_mode_weights_and_chance_as_they_were(training: bool) -> None:
    model = dropping()
    model.train(training)
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    first = measure_loss(Forward(model), MICROS, Pulse())
    assert first == measure_loss(Forward(model), MICROS, Pulse())  # no dropout
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_comes_back_even_when_looking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*_: Any) -> torch.Tensor:
        raise KeyboardInterrupt

    forward = Forward(causal("llama").train())
    monkeypatch.setattr(forward, "losses", losses)
    with pytest.raises(KeyboardInterrupt):
        measure_loss(forward, MICROS, Pulse())
    assert forward.model.training


def test_progress_is_told_by_the_batch() -> None:
    pulse = Pulse()
    measure_loss(Forward(causal("llama")), MICROS, pulse)
    assert pulse.done == len(MICROS)


@pytest.mark.parametrize(
    ("read_s", "reads", "progress"),
    [(None, 3, [1, 2, 3]), (0.0, 3, [1, 2, 3]), (1.0, 2, [0, 2, 3]), (60.0, 1, [0, 0, 3])],
)
def test_a_device_is_read_now_and_then_and_progress_is_what_was_read(
    read_s: float | None, reads: int, progress: list[int]
) -> None:
    forward, pulse, seen = Forward(causal("llama")), Pulse(), list[int]()
    with HostReads() as found:
        sums = sum_losses(
            forward,
            MICROS,
            pulse,
            lambda: seen.append(pulse.done),
            clock=lambda: float(len(seen)),
            read_s=read_s,
        )
    assert found.found == ["tolist"] * reads
    assert seen == progress
    assert sums == sum_losses(forward, MICROS, Pulse())


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_the_last_bit_does_not_depend_on_who_summed_up_what(cut: int) -> None:
    forward = Forward(causal("llama"))
    parts = [sum_losses(forward, micros, Pulse()) for micros in (MICROS[:cut], MICROS[cut:])]
    assert mean_of([*parts[0], *parts[1]]) == measure_loss(forward, MICROS, Pulse())


def test_an_evaluation_can_be_left_after_each_batch() -> None:
    seen: list[int] = []

    def leave() -> None:
        seen.append(pulse.done)
        if len(seen) == 2:
            raise StepDropped

    pulse, forward = Pulse(), Forward(causal("llama").train())
    with pytest.raises(StepDropped):
        sum_losses(forward, MICROS, pulse, leave)
    assert seen == [1, 2]
    assert forward.model.training


def test_one_token_has_no_spread() -> None:
    found = measure_loss(Forward(causal("llama")), [micro_of(1)], Pulse())
    assert found == Measured(found.mean, 0.0, 1)
