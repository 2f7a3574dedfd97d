"""Documents in one row do not see each other, and see what they begin with.

Here N is tokens of the row, P of the row with blocks filled up, H heads, G heads of keys and
values, B documents of a block, T tokens of each, S tokens of what they all begin with, D the head's
size.

On a processor documents of nearly one length make a *block*, attended as one batch: short ones as
plain matrix products, which a fused kernel's bookkeeping cannot pay back below some 256 tokens. On
a GPU FlashAttention takes documents of any lengths as they stand (`torch.nn.attention.varlen`).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from headway.model.attention_layout import AttentionLayout, Block, Blocks

NAME = "headway"
_AMPERE = (8, 0)  # the first generation with FlashAttention


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
    documents: AttentionLayout,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document.

    Args:
        module: the model's attention layer.
        query: (1, H, N, D).
        key: (1, G, N, D); G divides H.
        value: (1, G, N, D).
        attention_mask: not used.
        scaling: of the scores; 1/sqrt(D) when None.
        dropout: of the attention weights, while training.
        documents: how the row is laid out.
        sliding_window: tokens that a token sees back, itself included, where the layer has one.

    Returns:
        (1, N, H, D), and no weights.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout = dropout if module.training else 0.0
    if _flash_takes(query) and not dropout:
        return _flash(query, key, value, scale, documents, sliding_window), None
    blocks = documents.blocks
    tensors = [_fill(tensor[0], blocks) for tensor in (query * scale, key, value)]
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        tensors[1:] = (tensor.repeat_interleave(repeats, dim=0) for tensor in tensors[1:])
    # One split and one cat, not a slice per block: a slice's backward writes the whole row.
    q, k, v = (tensor.split(blocks.sizes, dim=1) for tensor in tensors)
    attended = [
        _block(
            (q[i], k[i], v[i]),
            () if block.prefix_block is None else (k[block.prefix_block], v[block.prefix_block]),
            blocks,
            block,
            dropout,
            sliding_window,
        )
        for i, block in enumerate(blocks.each)
    ]
    out_HPD = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return _drain(out_HPD, blocks).transpose(0, 1).unsqueeze(0), None


def _block(
    tensors_HPD: tuple[Tensor, Tensor, Tensor],
    before_HSD: Sequence[Tensor],
    blocks: Blocks,
    block: Block,
    dropout: float,
    window: int | None,
) -> Tensor:
    """One block's queries on its keys and values, and on those that it begins with."""
    heads, dtype = tensors_HPD[0].shape[0], tensors_HPD[0].dtype
    if not dropout and (block.is_short or before_HSD):
        q, k, v = (t.reshape(heads * block.num_documents, block.length, -1) for t in tensors_HPD)
        mask = blocks.mask(block, window, dtype)
        return cast("Tensor", _Products.apply(q, k, v, mask, heads, *before_HSD))
    q, k, v = (t.reshape(heads, block.num_documents, block.length, -1) for t in tensors_HPD)
    if before_HSD:
        each = (t.unsqueeze(1).expand(-1, block.num_documents, -1, -1) for t in before_HSD)
        k, v = (torch.cat(both, 2) for both in zip(each, (k, v), strict=True))
    mask = None
    if before_HSD or (window and window < block.length):
        mask = blocks.mask(block, window, dtype)
        mask = F.pad(mask, (k.shape[2] - mask.shape[1], 0))  # it sees all that it begins with
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None, scale=1.0)
    return out.reshape(heads, block.num_documents * block.length, -1)


class _Products(torch.autograd.Function):
    """Attention by plain matrix products: fewer passes than autograd would make of them.

    softmax(q k' + mask) v over (H B, T, D), and, where the documents begin with S tokens that are
    given by themselves (H, S, D), over [these, own] together; a mask of (T, T) is for the own ones
    alone. Queries come scaled.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        heads: int,
        *before: Tensor,
    ) -> Tensor:
        own = torch.bmm(q, k.transpose(1, 2))
        if not before:
            weights = torch.softmax(own.add_(mask), -1)
            out = torch.bmm(weights, v)
        else:
            k_HSD, v_HSD = before
            seen = torch.bmm(_by_head(q, heads), k_HSD.transpose(1, 2))
            both = torch.cat([seen.view(len(q), q.shape[1], -1), own], -1)
            both[..., -mask.shape[1] :].add_(mask)
            weights = torch.softmax(both, -1)
            at_S, at_T = weights.split([k_HSD.shape[1], q.shape[1]], -1)
            out = torch.bmm(at_T, v)
            out += torch.bmm(_by_head(at_S, heads), v_HSD).view_as(out)
        ctx.save_for_backward(q, k, v, weights, *before)
        cast("Any", ctx).heads = heads
        return _by_head(out, heads)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_HPD: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, weights, *before = ctx.saved_tensors
        grad = grad_HPD.reshape(q.shape)
        if not before:
            scores = _softmax_backward(torch.bmm(grad, v.transpose(1, 2)), weights)
            return (
                torch.bmm(scores, k),
                torch.bmm(scores.transpose(1, 2), q),
                torch.bmm(weights.transpose(1, 2), grad),
                None,
                None,
            )
        k_HSD, v_HSD = before
        heads, sizes = ctx.heads, [k_HSD.shape[1], q.shape[1]]
        grad_H, q_H = _by_head(grad, heads), _by_head(q, heads)
        seen = torch.bmm(grad_H, v_HSD.transpose(1, 2)).view(len(q), q.shape[1], -1)
        both = torch.cat([seen, torch.bmm(grad, v.transpose(1, 2))], -1)
        scores_S, scores_T = _softmax_backward(both, weights).split(sizes, -1)
        at_S, at_T = weights.split(sizes, -1)
        scores_H, at_H = _by_head(scores_S, heads), _by_head(at_S, heads)
        grad_q = torch.bmm(scores_T, k)
        grad_q += torch.bmm(scores_H, k_HSD).view_as(grad_q)
        return (
            grad_q,
            torch.bmm(scores_T.transpose(1, 2), q),
            torch.bmm(at_T.transpose(1, 2), grad),
            None,
            None,
            torch.bmm(scores_H.transpose(1, 2), q_H),
            torch.bmm(at_H.transpose(1, 2), grad_H),
        )


def _by_head(tensor: Tensor, heads: int) -> Tensor:
    """(H B, T, X) -> (H, B T, X)."""
    return tensor.reshape(heads, -1, tensor.shape[-1])


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    return torch._softmax_backward_data(grad, weights, -1, weights.dtype)  # pyright: ignore  # noqa: SLF001, PGH003


def _fill(tensor_HND: Tensor, blocks: Blocks) -> Tensor:
    """The row with blocks filled up."""
    if blocks.at_P is None:
        return tensor_HND
    return cast("Tensor", _Rows.apply(tensor_HND, blocks.at_P, blocks.where_N, False))


def _drain(tensor_HPD: Tensor, blocks: Blocks) -> Tensor:
    """The row as it was."""
    if blocks.at_P is None:
        return tensor_HPD
    return cast("Tensor", _Rows.apply(tensor_HPD, blocks.where_N, blocks.at_P, True))


class _Rows(torch.autograd.Function):
    """Take tokens (dim 1) of `tensor`; the gradient goes back by taking, too, never by adding.

    Filling up gives some tokens twice, but nobody reads the copies: their gradient is zero, so that
    a token's whole gradient is that of its own place. Draining leaves the copies out, so what goes
    back to them is zero.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, take: Tensor, back: Tensor, drains: bool) -> Tensor:
        ctx.save_for_backward(take, back)
        ctx.drains = drains
        return tensor.index_select(1, take)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        take, back = ctx.saved_tensors
        if not ctx.drains:
            return grad.index_select(1, back), None, None, None
        zeros = grad.new_zeros(grad.shape[0], len(back), grad.shape[2])
        return zeros.index_copy_(1, take, grad), None, None, None


def _flash_takes(query: Tensor) -> bool:
    """Half precision on a GPU that has the kernel, and heads of a size that it takes."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype != torch.float32
        and size % 8 == 0
        and size <= 256
        and torch.cuda.get_device_capability(query.device) >= _AMPERE
    )


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    layout: AttentionLayout,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    flat = layout.varlen
    q_NHD, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if flat.at is not None:
        # By way of fp32: what many documents begin with gets a sum of many gradients.
        k, v = (t.float().index_select(0, flat.at).to(t.dtype) for t in (k, v))
    # Where there are more keys than queries, the last ones are the queries' own.
    out_NHD = varlen_attn(
        q_NHD,
        k,
        v,
        flat.queries,
        flat.keys,
        *flat.longest,
        scale=scale,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=q_NHD.shape[1] != k.shape[1],
    )
    return cast("Tensor", out_NHD).unsqueeze(0)
