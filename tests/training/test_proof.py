"""Did it learn? Looking changes nothing, and a tensor that stood still is named."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import causal, micro_of

from headway.base.pulse import Pulse
from headway.model.forward import Forward
from headway.model.load import with_lora
from headway.runs.receipt import Measured, TensorAudit
from headway.training.proof import audit, measure_loss

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


# ---- losses ------------------------------------------------------------------------------------


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


def test_one_token_has_no_spread() -> None:
    found = measure_loss(Forward(causal("llama")), [micro_of(1)], Pulse())
    assert found == Measured(found.mean, 0.0, 1)


# ---- the audit ---------------------------------------------------------------------------------


def weights() -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(torch.full((4,), 3.0)) for name in ("a", "b", "c")}


def test_weights_that_all_moved() -> None:
    start, now = weights(), weights()
    for p in now.values():
        p.data.add_(0.3)
    found = audit(now, start, set())
    assert (found.trainable, found.with_gradient, found.changed) == (3, 3, 3)
    assert found.relative_change == pytest.approx(0.1)
    assert (found.unmoved, found.dead) == ((), ())


def test_s02_a_tensor_that_had_gradient_and_did_not_move_is_named() -> None:
    start, now = weights(), weights()
    now["a"].data[0] += 1e-6
    now["c"].data.mul_(2)
    found = audit(now, start, set())
    assert found.changed == 2
    assert found.unmoved == ("b",)


def test_l03_a_dead_tensor_is_named_and_is_no_unmoved_one() -> None:
    start, now = weights(), weights()
    now["a"].data.add_(1)
    found = audit(now, start, {"b", "c"})
    assert (found.with_gradient, found.changed) == (1, 1)
    assert (found.unmoved, found.dead) == ((), ("b", "c"))


def test_a_few_names_are_enough() -> None:
    many = {f"tensor {n:02}": torch.nn.Parameter(torch.ones(1)) for n in range(25)}
    found = audit(many, many, set())
    assert found.unmoved == tuple(f"tensor {n:02}" for n in range(10))
    assert audit(many, many, set(many)).dead == tuple(f"tensor {n:02}" for n in range(10))


def test_weights_that_begin_at_0_have_no_relative_change() -> None:
    start = {"b": torch.zeros(3)}
    now = {"b": torch.nn.Parameter(torch.ones(3))}
    assert audit(now, start, set()) == TensorAudit(1, 1, 1, 0.0, (), ())


def test_the_audit_sees_the_smallest_step_of_a_float() -> None:
    now = {"b": torch.nn.Parameter(torch.ones(1000))}
    start = {"b": torch.ones(1000)}
    now["b"].data[777] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert audit(now, start, set()).changed == 1
