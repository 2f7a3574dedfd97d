"""Attention over packed documents, each limited to itself and its shared prefix.

This is what transformers calls in each layer. N is the row's tokens, H the heads, G the heads of
keys and values, D a head's size. How it is computed: `model/kernels/packed_attention.py`.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from headway.model.attention_layout import AttentionLayout
from headway.model.kernels.opaque_attention import opaque_attention
from headway.model.kernels.packed_attention import Scores, packed_attention

NAME = "headway"


def use_implementation(model: nn.Module, name: str = NAME) -> None:
    """Switch a transformers model, with or without adapters, to an attention implementation."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, cast("Any", attend))
    cast("Any", model).set_attn_implementation(name)


def is_ours(model: nn.Module) -> bool:
    """Whether a model uses this attention; some keep their own, whatever they are told."""
    return current_implementation(model) == NAME


def current_implementation(model: nn.Module) -> str:
    """The name of the attention implementation that a model uses now."""
    return cast("Any", model).config._attn_implementation  # noqa: SLF001 - no public getter


class UnknownAttentionError(Exception):
    """A model asks its attention for something that packed attention does not compute."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - transformers' signature; `documents` replaces it
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    documents: AttentionLayout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document. An attention function of transformers.

    Args:
        module: the model's attention layer.
        query: (1, H, N, D).
        key: (1, G, N, D); G divides H.
        value: (1, G, N, D).
        attention_mask: not used.
        scaling: of the scores; 1/sqrt(D) if None.
        dropout: of the attention weights, in training only.
        documents: the row's layout.
        sliding_window: tokens that a token sees, itself included, where the layer has a window.
        softcap: scores s become softcap x tanh(s / softcap).
        s_aux: (H,) attention sinks: a score of each head that takes weight, and has no value.
        others: whatever else the model passes.

    Returns:
        (1, N, H, D), contiguous since some models take a view, and no attention weights.

    Raises:
        UnknownAttentionError: `others` has something that would change the result, or the model
            does not pass the layout on.
    """
    documents = _check_arguments(documents, others)
    scores = Scores(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        dropout=dropout if module.training else 0.0,
        window=sliding_window,
        softcap=softcap,
        sinks_H=s_aux,
    )
    # A compiler that follows the call sees one operation, and never into the layout.
    attention = opaque_attention if torch.compiler.is_compiling() else packed_attention
    return attention(query, key, value, documents, scores), None


def _check_arguments(
    documents: AttentionLayout | None, others: Mapping[str, object]
) -> AttentionLayout:
    unknown = [name for name, value in others.items() if not _is_without_effect(name, value)]
    if unknown:
        raise UnknownAttentionError(f"its attention takes {', '.join(unknown)}")
    if documents is None:
        raise UnknownAttentionError("its attention is not told where documents begin")
    return documents


def _is_without_effect(name: str, value: object) -> bool:
    """Whether an argument leaves the result as it is: positions are in the queries already."""
    return (
        value is None
        or value is False
        or name == "position_ids"
        or (name == "is_causal" and value is True)
    )


def has_windows(model: nn.Module) -> bool:
    """Whether tokens of a model's layers see a window of the tokens before them."""
    config = cast("Any", model).config
    return bool(getattr(config, "sliding_window", None)) and getattr(
        config, "use_sliding_window", True
    )
