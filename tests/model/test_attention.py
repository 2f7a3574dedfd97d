"""B03: documents packed into one row are as if each were alone, on every kind of model."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses, sharing
from torch import Tensor

from headway.base.documents import DocumentGroup, RowSpan
from headway.model import attention
from headway.model import attention_layout as layout
from headway.model.attention import (
    NAME,
    UnknownAttentionError,
    attend,
    current_implementation,
)
from headway.model.attention_layout import AttentionLayout, Blocks
from headway.model.forward import Forward
from headway.model.kernels import packed_attention

DOCUMENTS = (1, 3, 5, 5, 9, 12)
# What documents begin with, shorter and longer than them, and what comes after, in several lengths.
FAMILIES = ((11, (2, 3, 3, 9, 12)), (5, (1, 9)))
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
    "gemma2, a window and a cap on the scores": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 0.5,
        "final_logit_softcapping": None,
    },
    "gpt_oss, a window and sinks": {
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "sliding_window": WINDOW,
    },
    "phi3": {},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16, "dropout": 0.0},
}


def made(kind: str) -> Any:
    # Qwen 3 normalises queries and keys: larger norms alone make its attention as sharp.
    return causal(kind.split(",")[0], scale=2.0 if kind == "qwen3" else 5.0, **KINDS[kind])


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


@pytest.fixture(params=["products", "both", "kernel"])
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which documents are attended by matrix products: all, those of up to 8 tokens, none."""
    monkeypatch.setattr(layout, "SHORT", {"products": 256, "both": 8, "kernel": 0}[request.param])


@pytest.mark.usefixtures("short")
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


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", KINDS)
def test_b03_what_documents_begin_with_is_run_once_and_is_as_if_it_were_in_each(kind: str) -> None:
    model, (once, each) = made(kind), sharing(*FAMILIES)
    assert len(once.ids_N) < len(each.ids_N)
    assert len(set(once.trained_at_M.tolist())) < len(once.trained_at_M)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    losses, gradients = with_gradients(model, lambda: forward.losses(once))
    alone, alone_gradients = with_gradients(plain, lambda: padded_losses(plain, each))
    assert_close(losses, alone, "losses")
    assert gradients.keys() == alone_gradients.keys()
    for name, gradient in gradients.items():
        assert_close(gradient, alone_gradients[name], name)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral, a window"])
def test_b03_an_attention_across_documents_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*tensors: Any, documents: AttentionLayout, **rest: Any) -> Any:
        whole = sum(group.num_tokens for group in documents.documents)
        return attend(*tensors, documents=AttentionLayout((DocumentGroup(whole),)), **rest)

    model, micro = made(kind), micro_of(*DOCUMENTS)
    plain = copy.deepcopy(model)
    monkeypatch.setattr(attention, "attend", across)
    with torch.no_grad():
        packed, alone = Forward(model).losses(micro), padded_losses(plain, micro)
    assert float((packed - alone).abs().max()) > 0.01


def no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Blocks.mask
    monkeypatch.setattr(Blocks, "mask", lambda *given: real(*given).clamp(min=0))


def own_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packed_attention._attend_block
    monkeypatch.setattr(
        packed_attention, "_attend_block", lambda tensors, _before, *rest: real(tensors, (), *rest)
    )


def rows_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Blocks.__init__

    def init(self: Blocks, *given: Any) -> None:
        real(self, *given)
        assert self.where_N is not None
        self.where_N = self.where_N.roll(1)

    monkeypatch.setattr(Blocks, "__init__", init)


@pytest.mark.parametrize("mutant", [no_mask, own_tokens_only, rows_shifted])
def test_b03_a_mistake_in_the_attention_would_be_noticed(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (once, each) = made("llama"), sharing(*FAMILIES)
    plain = copy.deepcopy(model)
    mutant(monkeypatch)
    with torch.no_grad():
        packed, alone = Forward(model).losses(once), padded_losses(plain, each)
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


def test_long_documents_are_not_filled_up_and_make_no_mask() -> None:
    made = AttentionLayout((DocumentGroup(300), DocumentGroup(301, 2)))
    tensors = [torch.randn(1, 2, 902, 4) for _ in range(3)]
    attend(torch.nn.Module(), *tensors, None, documents=made)
    assert [(block.num_documents, block.length) for block in made.blocks.each] == [
        (1, 300),
        (2, 301),
    ]
    assert made.blocks._masks == {}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "documents",
    [(DocumentGroup(6),), (DocumentGroup(6), DocumentGroup(9, 2, RowSpan(0, 6)))],
    ids=len,
)
def test_dropout_is_for_training_alone(documents: tuple[DocumentGroup, ...]) -> None:
    module = torch.nn.Module()
    num = sum(group.num_tokens for group in documents)
    tensors = [torch.randn(1, 2, num, 4) for _ in range(3)]

    def out(dropout: float) -> Tensor:
        layout = AttentionLayout(documents)
        return attend(module, *tensors, None, dropout=dropout, documents=layout)[0]

    module.eval()
    assert torch.equal(out(0.5), out(0.0))
    module.train()
    assert torch.allclose(out(1e-9), out(0.0), atol=1e-6)  # by another way
    assert not torch.equal(out(0.5)[:, -1], out(0.5)[:, -1])


def test_the_scale_of_the_scores_is_the_models() -> None:
    module = torch.nn.Module()
    tensors = [torch.randn(1, 2, 6, 4) for _ in range(3)]

    def out(scaling: float | None) -> Tensor:
        return attend(
            module, *tensors, None, scaling, documents=AttentionLayout((DocumentGroup(6),))
        )[0]

    assert torch.equal(out(None), out(0.5))  # 1/sqrt(4)
    assert not torch.equal(out(None), out(1.0))


def test_a_model_uses_ours_and_gives_it_back() -> None:
    model = causal("llama")
    assert current_implementation(model) == "sdpa"
    forward = Forward(model)
    assert current_implementation(model) == NAME
    forward.run_separately()
    assert current_implementation(model) == "sdpa"
    forward.run_separately(False)
    assert current_implementation(model) == NAME


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"sinks": torch.ones(2)}, "its attention takes sinks"),
        ({"position_bias": torch.ones(2), "is_causal": False}, "its attention takes position_bias"),
        ({"head_mask": torch.ones(2), "a": 1}, "its attention takes head_mask, a"),
        ({}, "its attention is not told where documents begin"),
    ],
)
def test_what_would_change_the_result_is_never_dropped(given: dict[str, Any], why: str) -> None:
    q = torch.ones(1, 2, 3, 8)
    with pytest.raises(UnknownAttentionError, match=f"^{why}$"):
        attend(torch.nn.Identity(), q, q, q, None, **given)


def test_what_changes_nothing_is_taken() -> None:
    q = torch.ones(1, 2, 3, 8)
    known = {"position_ids": torch.arange(3), "use_cache": False, "s_aux": None, "is_causal": True}
    layout_of_one = AttentionLayout((DocumentGroup(3),))
    plain = attend(torch.nn.Identity(), q, q, q, None, documents=layout_of_one)[0]
    found = attend(torch.nn.Identity(), q, q, q, None, documents=layout_of_one, **known)[0]
    assert torch.equal(found, plain)
