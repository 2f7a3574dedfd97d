"""The loss of the trained positions alone, whatever way a micro-batch is run."""

import copy
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses
from torch import Tensor, nn

from headway.model.loss import Forward


class Recording(nn.Module):
    """Stands before a model's head and sees what it gets."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.seen: list[int] = []

    def forward(self, hidden: Tensor) -> Tensor:
        self.seen.append(hidden.shape[1])
        return self.head(hidden)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_losses_are_the_textbooks(every: int) -> None:
    model, micro = causal("llama"), micro_of(2, 4, 4, 11, every=every)
    plain = copy.deepcopy(model)
    with torch.no_grad():
        losses, wanted = Forward(model).losses(micro), padded_losses(plain, micro)
    assert losses.shape == micro.targets_M.shape
    assert losses.dtype == torch.float32
    assert torch.allclose(losses, wanted, rtol=1e-5, atol=1e-5)


def test_no_logits_are_computed_for_tokens_that_are_not_trained() -> None:
    model, micro = causal("llama"), micro_of(8, 16, every=4)
    head = Recording(model.lm_head)
    model.lm_head = head
    Forward(model).losses(micro)
    assert head.seen == [len(micro.targets_M)]
    assert len(micro.targets_M) == 6 < len(micro.ids_N)


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


def test_products_in_bfloat16_losses_and_weights_in_float32() -> None:
    model, micro = causal("llama", scale=1.0), micro_of(2, 4, 4, 11)
    exact = Forward(model).losses(micro)
    forward = Forward(model, torch.bfloat16)
    kinds: list[Any] = []
    model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda _, __, out: kinds.append(out.dtype)
    )
    losses = forward.losses(micro)
    losses.sum().backward()
    assert kinds == [torch.bfloat16]
    assert losses.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert torch.allclose(losses, exact, rtol=0.01)
    assert not torch.equal(losses, exact)
