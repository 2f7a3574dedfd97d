"""The loss of the trained positions alone, whatever way a micro-batch is run."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.helpers import VOCAB, causal, micro_of, padded_losses, sharing
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from headway.model import loss as module
from headway.model.load import with_lora
from headway.model.loss import Forward
from headway.training.calibrate import try_packing


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
def parts_of(rows: int) -> Iterator[None]:
    """Logits of so many positions at one time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOGITS_BYTES", rows * 4 * VOCAB)
        yield


def gradients(model: Any) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], far: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        most = float((found[name] - gradient).abs().max())
        assert most <= far * max(1.0, float(gradient.abs().max())), (name, most)


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
    forward.own_logits = own_logits
    with Logits() as seen:
        forward.loss(micro, 60).backward()
    assert seen.most == len(micro.targets_M) == 60 < len(micro.ids_N)


@pytest.mark.parametrize("every", [1, 3, 12])
def test_separately_gives_the_same_losses(every: int) -> None:
    micro = micro_of(2, 4, 4, 11, every=every)
    forward = Forward(causal("llama"))
    with torch.no_grad():
        packed = forward.losses(micro)
        forward.run_separately()
        separate = forward.losses(micro)
    assert torch.allclose(packed, separate, rtol=1e-5, atol=1e-5)


def test_separately_runs_each_document_by_itself() -> None:
    model, lengths = causal("llama"), list[int]()
    model.model.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    forward = Forward(model)
    forward.run_separately()
    forward.losses(micro_of(2, 4, 4, 11))
    assert lengths == [2, 4, 4, 11]


@pytest.mark.parametrize("together", [True, False])
def test_separately_a_document_comes_after_what_it_begins_with(together: bool) -> None:
    once, each = sharing((7, (1, 4)), (3, (5, 5, 2)))
    model = causal("llama")
    plain = copy.deepcopy(model)
    forward = Forward(model)
    forward.run_separately()
    with torch.no_grad():
        losses, wanted = forward.losses(once if together else each), padded_losses(plain, each)
    assert torch.allclose(losses, wanted, rtol=1e-5, atol=1e-5)


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
    with parts_of(rows):
        loss = Forward(model).loss(micro, 2 * len(micro.targets_M))
        loss.backward()
    wanted = padded_losses(plain, micro).mean() / 2
    wanted.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert_same(gradients(model), gradients(plain))
    assert all(p.requires_grad or p.grad is None for p in model.parameters())


def test_in_parts_is_as_whole() -> None:
    results = list[tuple[float, dict[str, Tensor]]]()
    for rows in (20, 1000):
        model = causal("llama", scale=2.0)
        with parts_of(rows):
            loss = Forward(model).loss(micro_of(97, every=1), 97)
            loss.backward()
        results.append((float(loss.detach()), gradients(model)))
    (in_parts, parts_gradients), (whole, whole_gradients) = results
    assert in_parts == pytest.approx(whole, rel=1e-6)
    assert_same(parts_gradients, whole_gradients, 1e-6)


def test_the_full_logits_never_exist() -> None:
    forward, micro = Forward(causal("llama", scale=1.0)), micro_of(300, every=1)
    with parts_of(40):
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
        with parts_of(20):
            (Forward(model).loss(micro_of(50, every=1), 50) * factor).backward()
        found.append(gradients(model))
    assert_same(found[1], {name: 3.0 * gradient for name, gradient in found[0].items()})


@pytest.mark.parametrize("way", ["packed", "own logits", "separately"])
def test_b02_a_micro_batch_with_nothing_trained_is_0_and_changes_nothing(way: str) -> None:
    model, micro = causal("llama"), micro_of(3, 5)
    object.__setattr__(micro, "trained_at_M", micro.trained_at_M[:0])
    object.__setattr__(micro, "targets_M", micro.targets_M[:0])
    forward = Forward(model)
    forward.own_logits = way == "own logits"
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
            forward.collect()
            total += float(loss.detach())
        return total, gradients(model)

    one, ten = micro_of(1, every=1), micro_of(10, every=1, seed=1)
    both = type(one)(
        rows_R=one.rows_R,
        documents=one.documents + ten.documents,
        trained_at_M=torch.cat([one.trained_at_M, ten.trained_at_M + 1]),
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


# ---- logits that are more than a product -------------------------------------------------------

OWN: dict[str, dict[str, Any]] = {
    "gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": None,
    },
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


@pytest.mark.parametrize("kind", OWN)
def test_logits_that_are_more_than_a_product_are_the_models_own(kind: str) -> None:
    model, micro = causal(kind, scale=2.0, **OWN[kind]), micro_of(3, 5, 9, 12)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    tried = try_packing(forward, micro)
    assert (tried.separately, tried.own_logits) == (False, True)
    loss, wanted = forward.loss(micro, 20), padded_losses(plain, micro).sum() / 20
    loss.backward()
    wanted.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert_same(gradients(model), gradients(plain))
    forward.compute_in(torch.bfloat16)
    assert forward.own_logits  # the twin's are no other
    assert torch.allclose(forward.losses(micro), padded_losses(plain, micro), rtol=0.05, atol=0.02)
