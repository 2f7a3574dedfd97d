"""Cross-entropy of the trained positions only, the same however a micro-batch runs."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import VOCAB, causal, micro_of, padded_losses
from tests.model.gradients import assert_same, gradients
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from headway.model import loss as module
from headway.model.forward import Forward
from headway.model.load import with_lora


class Logits(TorchDispatchMode):
    """Sees how many positions have logits at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.ndim >= 2 and out.shape[-1] == VOCAB:
            self.most = max(self.most, out.numel() // VOCAB)
        return out


@contextmanager
def chunks_of(rows: int) -> Iterator[None]:
    """Logits of so many positions at one time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOGITS_BYTES", rows * 4 * VOCAB)
        yield


@pytest.mark.parametrize("every", [1, 2, 5])
def test_losses_are_the_textbooks(every: int) -> None:
    model, micro = causal("llama"), micro_of(2, 4, 4, 11, every=every)
    plain = copy.deepcopy(model)
    with torch.no_grad():
        losses, wanted = Forward(model).losses(micro), padded_losses(plain, micro)
    assert losses.shape == micro.targets_M.shape
    assert losses.dtype == torch.float32
    assert torch.allclose(losses, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("own_logits", [False, True])
def test_no_logits_are_computed_for_tokens_that_are_not_trained(own_logits: bool) -> None:
    micro = micro_of(80, 160, every=4)
    forward = Forward(causal("llama"))
    forward.use_custom_logits(own_logits)
    with Logits() as seen:
        forward.loss(micro, 60).backward()
    assert seen.most == len(micro.targets_M) == 60 < len(micro.ids_N)


# ---- the loss that is trained ------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "llama": lambda: causal("llama", scale=2.0),
    "tied": lambda: causal("llama", scale=2.0, tie_word_embeddings=True),
    "a head with a bias": lambda: causal("phi", scale=2.0, partial_rotary_factor=0.5),
    "a frozen head": lambda: adapted("q_proj", "down_proj"),
    "a head with adapters": lambda: adapted("q_proj", "lm_head"),
}


def adapted(*targets: str) -> Any:
    model: Any = with_lora(
        causal("llama", scale=2.0), r=2, alpha=4, dropout=0.0, target_modules=targets, seed=1
    )
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.1)
    return model


@pytest.mark.parametrize("rows", [17, 100, 1000])
@pytest.mark.parametrize("kind", MODELS)
def test_b06_the_loss_and_its_gradient_are_the_textbooks(kind: str, rows: int) -> None:
    model, micro = MODELS[kind](), micro_of(7, 30, 60, every=1)
    plain = copy.deepcopy(model)
    with chunks_of(rows):
        loss = Forward(model).loss(micro, 2 * len(micro.targets_M))
        loss.backward()
    wanted = padded_losses(plain, micro).mean() / 2
    wanted.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert_same(gradients(model), gradients(plain))
    assert all(p.requires_grad or p.grad is None for p in model.parameters())


def test_in_chunks_is_as_whole() -> None:
    results = list[tuple[float, dict[str, Tensor]]]()
    for rows in (20, 1000):
        model = causal("llama", scale=2.0)
        with chunks_of(rows):
            loss = Forward(model).loss(micro_of(97, every=1), 97)
            loss.backward()
        results.append((float(loss.detach()), gradients(model)))
    (in_chunks, chunks_gradients), (whole, whole_gradients) = results
    assert in_chunks == pytest.approx(whole, rel=1e-6)
    assert_same(chunks_gradients, whole_gradients, 1e-6)


def test_the_full_logits_never_exist() -> None:
    forward, micro = Forward(causal("llama", scale=1.0)), micro_of(300, every=1)
    with chunks_of(40):
        with Logits() as seen:
            forward.loss(micro, 300).backward()
        assert 30 < seen.most <= 40
        with Logits() as seen, torch.no_grad():
            forward.losses(micro)
        assert 30 < seen.most <= 40


def test_a_factor_of_the_loss_is_one_of_its_gradients() -> None:
    found = list[dict[str, Tensor]]()
    for factor in (1.0, 3.0):
        model = causal("llama", scale=2.0)
        with chunks_of(20):
            (Forward(model).loss(micro_of(50, every=1), 50) * factor).backward()
        found.append(gradients(model))
    assert_same(found[1], {name: 3.0 * gradient for name, gradient in found[0].items()})


@pytest.mark.parametrize("way", ["packed", "own logits", "separately"])
def test_b02_a_micro_batch_with_nothing_trained_is_0_and_changes_nothing(way: str) -> None:
    model, micro = causal("llama"), micro_of(3, 5)
    trained = ("trained_at_M", "targets_M", "host_trained_at_M")
    micro = replace(micro, **{name: getattr(micro, name)[:0] for name in trained})
    forward = Forward(model)
    forward.use_custom_logits(way == "own logits")
    forward.run_separately(way == "separately")
    loss = forward.loss(micro, 8)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert forward.losses(micro).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_b06_ten_tokens_and_one_token_are_eleven(dtype: torch.dtype) -> None:
    def summed(*micros: Any) -> tuple[float, dict[str, Tensor]]:
        model = causal("llama", scale=1.0)
        forward = Forward(model)
        forward.compute_in(dtype)
        total = 0.0
        for micro in micros:
            loss = forward.loss(micro, 11)
            loss.backward()
            forward.collect_gradients()
            total += float(loss.detach())
        return total, gradients(model)

    one, ten = micro_of(1, every=1), micro_of(10, every=1, seed=1)
    both = type(one)(
        rows_R=one.rows_R,
        documents=one.documents + ten.documents,
        trained_at_M=torch.cat([one.trained_at_M, ten.trained_at_M + 1]),
        host_trained_at_M=np.r_[one.host_trained_at_M, ten.host_trained_at_M + 1],
        **{
            name: torch.cat([getattr(one, name), getattr(ten, name)])
            for name in ("ids_N", "positions_N", "targets_M")
        },
    )
    far = 1e-5 if dtype == torch.float32 else 2e-3
    (together, wanted), (apart, found) = summed(both), summed(one, ten)
    assert apart == pytest.approx(together, rel=far)
    assert_same(found, wanted, far)
    mean_of_means = (summed(one)[0] * 11 + summed(ten)[0] * 11 / 10) / 2
    assert mean_of_means != pytest.approx(together, rel=max(far, 1e-3))  # as others do it
