"""B03: documents packed into one row are as if each were alone, on every kind of model."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses
from torch import Tensor

from headway.model import attention
from headway.model.attention import NAME, attend, implementation
from headway.model.loss import Forward

DOCUMENTS = (1, 3, 5, 5, 9, 12)
WINDOW = 4  # shorter than most of the documents
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, heads of their own": {"num_key_value_heads": 2},
    "qwen2": {},
    "qwen2, a window": {
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 0,
    },
    "qwen3": {"head_dim": 8},
    "mistral, a window": {"sliding_window": WINDOW},
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gemma3_text, a window": {"head_dim": 8, "sliding_window": WINDOW},
    "phi3": {},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0},
}


def made(kind: str) -> Any:
    return causal(kind.split(",")[0], **KINDS[kind])


def with_gradients(model: Any, losses: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    found = losses()
    found.sum().backward()
    return found.detach(), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


def assert_close(found: Tensor, wanted: Tensor, what: str) -> None:
    """To 1e-5 of the largest value, fp32."""
    scale = max(1.0, float(wanted.abs().max()))
    assert float((found - wanted).abs().max()) <= 1e-5 * scale, what


@pytest.mark.parametrize("kind", KINDS)
def test_b03_packed_is_each_document_alone(kind: str) -> None:
    model, micro = made(kind), micro_of(*DOCUMENTS)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    losses, gradients = with_gradients(model, lambda: forward.losses(micro))
    alone, alone_gradients = with_gradients(plain, lambda: padded_losses(plain, micro))
    assert_close(losses, alone, "losses")
    assert gradients.keys() == alone_gradients.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, alone_gradients[name], name)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral, a window"])
def test_b03_an_attention_across_documents_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*tensors: Any, documents: attention.Groups, **rest: Any) -> Any:
        return attend(*tensors, documents=((sum(n * m for n, m in documents), 1),), **rest)

    model, micro = made(kind), micro_of(*DOCUMENTS)
    plain = copy.deepcopy(model)
    monkeypatch.setattr(attention, "attend", across)
    with torch.no_grad():
        packed, alone = Forward(model).losses(micro), padded_losses(plain, micro)
    assert float((packed - alone).abs().max()) > 0.01


def test_b03_positions_that_run_on_are_noticed() -> None:
    micro = micro_of(*DOCUMENTS)
    model = made("gpt2")  # learned positions: a shift changes more than the order
    forward = Forward(model)
    with torch.no_grad():
        right = forward.losses(micro)
        object.__setattr__(micro, "positions_N", torch.arange(len(micro.ids_N)))
        assert float((forward.losses(micro) - right).abs().max()) > 0.01


def test_a_window_that_is_ignored_is_noticed() -> None:
    micro = micro_of(12)
    windowed = made("mistral, a window")
    whole = copy.deepcopy(windowed)
    whole.config.sliding_window = None
    for layer in whole.model.layers:
        layer.self_attn.sliding_window = None
    with torch.no_grad():
        difference = Forward(windowed).losses(micro) - Forward(whole).losses(micro)
    assert float(difference.abs().max()) > 0.01


def test_documents_of_one_length_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def seen(query: Tensor, *rest: Any, **options: Any) -> Tensor:
        shapes.append(tuple(query.shape))
        return plain(query, *rest, **options)

    model = causal("llama", num_hidden_layers=1)
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", seen)
    Forward(model).losses(micro_of(3, 5, 5, 5))
    assert shapes == [(2, 1, 3, 8), (2, 3, 5, 8)]  # heads, documents, tokens, size


def test_dropout_is_for_training_alone() -> None:
    module = torch.nn.Module()
    tensors = [torch.randn(1, 2, 6, 4) for _ in range(3)]

    def out() -> Tensor:
        return attend(module, *tensors, None, dropout=0.5, documents=((6, 1),))[0]

    module.eval()
    assert torch.equal(out(), out())
    module.train()
    assert not torch.equal(out(), out())


def test_the_scale_of_the_scores_is_the_models() -> None:
    module = torch.nn.Module()
    tensors = [torch.randn(1, 2, 6, 4) for _ in range(3)]

    def out(scaling: float | None) -> Tensor:
        return attend(module, *tensors, None, scaling, documents=((6, 1),))[0]

    assert torch.equal(out(None), out(0.5))  # 1/sqrt(4)
    assert not torch.equal(out(None), out(1.0))


def test_a_model_uses_ours_and_gives_it_back() -> None:
    model = causal("llama")
    assert implementation(model) == "sdpa"
    forward = Forward(model)
    assert implementation(model) == NAME
    forward.run_separately()
    assert implementation(model) == "sdpa"
    forward.run_separately(False)
    assert implementation(model) == NAME
