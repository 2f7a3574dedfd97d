"""Documents in one row do not see each other.

A micro-batch is one long row of tokens without padding; its documents stand in it one after the
other, sorted by length. Here N is tokens of the row, H heads, T tokens of a document, D the head's
size. Documents of one length are attended as one batch of (H, documents, T, D), so that no score
between two documents is ever computed.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn

NAME = "headway"
Groups = tuple[tuple[int, int], ...]  # (tokens of a document, how many documents), in row order


def use(model: nn.Module, name: str = NAME) -> None:
    """Switch a transformers model (adapters or not) to an attention implementation."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, cast("Any", attend))
    cast("Any", model).set_attn_implementation(name)


def implementation(model: nn.Module) -> str:
    """The name of the one a model uses now."""
    return cast("Any", model).config._attn_implementation  # noqa: SLF001 - no public getter


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - transformers' signature; documents replace it
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    documents: Groups,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document.

    Args:
        module: the model's attention layer.
        query: (1, H, N, D).
        key: (1, H or fewer, N, D).
        value: (1, H or fewer, N, D).
        attention_mask: not used.
        scaling: of the scores; 1/sqrt(D) when None.
        dropout: of the attention weights, while training.
        documents: the row's documents by length.
        sliding_window: tokens that a token sees back, itself included, where the layer has one.

    Returns:
        (1, N, H, D), and no weights.
    """
    heads = query.shape[1]
    if key.shape[1] != heads:
        key = key.repeat_interleave(heads // key.shape[1], dim=1)
        value = value.repeat_interleave(heads // value.shape[1], dim=1)
    spans = [length * num for length, num in documents]
    # One split and one cat, not a slice per group: a slice's backward writes the whole row.
    parts = zip(
        documents, *(tensor[0].split(spans, dim=1) for tensor in (query, key, value)), strict=True
    )
    attended = [
        _group(q, k, v, length, num, scaling, dropout if module.training else 0.0, sliding_window)
        for (length, num), q, k, v in parts
    ]
    return torch.cat(attended, dim=1).transpose(0, 1).unsqueeze(0), None


def _group(
    query_HND: Tensor,
    key_HND: Tensor,
    value_HND: Tensor,
    length: int,
    num: int,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    heads = query_HND.shape[0]
    q, k, v = (t.reshape(heads, num, length, -1) for t in (query_HND, key_HND, value_HND))
    mask = _band(length, window, q.device) if window and length > window else None
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    )
    return out.reshape(heads, num * length, -1)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    return (back >= 0) & (back < window)
