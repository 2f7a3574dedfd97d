"""Packed attention: a row's queries, keys and values by the fastest kernel for its documents.

N is the row's tokens, P the row's tokens with blocks padded, H the heads, G the heads of keys and
values, B the documents of a block, T the tokens of each, S the tokens of their shared prefix, D a
head's size.

On a CPU, documents of similar lengths form a *block*, attended as one batch. Short ones use plain
matrix products: below about 256 tokens a fused kernel's bookkeeping does not pay off. On a GPU,
FlashAttention takes documents of any length (`model/kernels/varlen.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from headway.model.attention_layout import AttentionLayout, Block, Blocks
from headway.model.kernels.varlen import can_use_varlen, varlen_attention


@dataclass(frozen=True)
class Scores:
    """What is done with scores besides the softmax.

    Attributes:
        scale: of the scores.
        dropout: of the attention weights.
        window: tokens that a token sees, itself included; None for all.
        softcap: scores s become softcap x tanh(s / softcap), if given.
        sinks_H: attention sinks: a score of each head that takes weight, and has no value.
    """

    scale: float
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks_H: Tensor | None = None

    @property
    def are_plain(self) -> bool:
        """Whether a kernel computes the weights: there is nothing but the softmax and a mask."""
        return not self.dropout and self.is_softmax

    @property
    def is_softmax(self) -> bool:
        """Whether the weights, before dropout, are the softmax of the scores."""
        return not self.softcap and self.sinks_H is None


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, scores: Scores
) -> Tensor:
    """(1, N, H, D) causal attention inside each document, contiguous since some models take a view.

    Args:
        query: (1, H, N, D).
        key: (1, G, N, D); G divides H.
        value: (1, G, N, D).
        layout: of the row.
        scores: what is done with them.
    """
    if scores.are_plain and can_use_varlen(query, scores.window, layout):
        return _flash(query, key, value, layout, scores)
    blocks = layout.blocks
    padded = (_pad(t[0], blocks) for t in (query * scores.scale, key, value))
    tensors = _by_query_heads(*padded)
    # One split and one cat instead of a slice per block: a slice's backward writes the whole row.
    q, k, v = (tensor.split(blocks.sizes, dim=1) for tensor in tensors)
    attended = [
        _attend_block(
            (q[i], k[i], v[i]),
            () if block.prefix_block is None else (k[block.prefix_block], v[block.prefix_block]),
            blocks,
            block,
            scores,
        )
        for i, block in enumerate(blocks.each)
    ]
    out_HPD = attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)
    return _unpad(out_HPD, blocks).transpose(0, 1).contiguous().unsqueeze(0)


def _attend_block(
    tensors_HPD: tuple[Tensor, Tensor, Tensor],
    prefix_HSD: Sequence[Tensor],
    blocks: Blocks,
    block: Block,
    scores: Scores,
) -> Tensor:
    """One block's queries on its own keys and values and those of its shared prefix."""
    heads, dtype = tensors_HPD[0].shape[0], tensors_HPD[0].dtype
    window = scores.window
    if scores.are_plain and (block.is_short or prefix_HSD):
        q, k, v = (t.reshape(heads * block.num_documents, block.length, -1) for t in tensors_HPD)
        mask = blocks.mask(block, window, dtype)
        return cast("Tensor", _MatrixProducts.apply(q, k, v, mask, heads, *prefix_HSD))
    q, k, v = (t.reshape(heads, block.num_documents, block.length, -1) for t in tensors_HPD)
    if prefix_HSD:
        each = (t.unsqueeze(1).expand(-1, block.num_documents, -1, -1) for t in prefix_HSD)
        k, v = (torch.cat(both, 2) for both in zip(each, (k, v), strict=True))
    mask = None
    if prefix_HSD or not scores.is_softmax or (window and window < block.length):
        mask = blocks.mask(block, window, dtype)
        mask = F.pad(mask, (k.shape[2] - mask.shape[1], 0))  # the whole prefix is visible
    if not scores.is_softmax and mask is not None:
        out = _weighted(q, k, v, mask, scores)
    else:
        out = F.scaled_dot_product_attention(
            q, k, v, mask, scores.dropout, is_causal=mask is None, scale=1.0
        )
    return out.reshape(heads, block.num_documents * block.length, -1)


def _weighted(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Attention with capped scores or sinks; q, k and v are (H, B, T, D).

    A cap: softmax(softcap tanh(q k' / softcap) + mask) v (Gemma 2, arXiv:2408.00118, section 2).
    A sink is one more score in the softmax, without a value (gpt-oss, arXiv:2508.10925, section 2).
    """
    each = q @ k.transpose(-1, -2)
    if scores.softcap:
        each = scores.softcap * torch.tanh(each / scores.softcap)
    each = each + mask
    if scores.sinks_H is not None:
        sinks = scores.sinks_H.to(each.dtype).view(-1, 1, 1, 1)
        each = torch.cat([each, sinks.expand(*each.shape[:-1], 1)], -1)
    weights = torch.softmax(each, -1, dtype=torch.float32).to(q.dtype)
    return F.dropout(weights[..., : k.shape[2]], scores.dropout) @ v


class _MatrixProducts(torch.autograd.Function):
    """Attention by plain matrix products, in fewer memory passes than autograd's.

    softmax(q k' + mask) v over (H B, T, D). Where the documents have a shared prefix, given as keys
    and values of (H, S, D), the softmax is over [prefix, own] together; a mask of (T, T) applies to
    the own tokens only. Queries are scaled already.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        heads: int,
        *prefix: Tensor,
    ) -> Tensor:
        own = torch.bmm(q, k.transpose(1, 2))
        if not prefix:
            weights = torch.softmax(own.add_(mask), -1)
            out = torch.bmm(weights, v)
        else:
            k_HSD, v_HSD = prefix
            seen = torch.bmm(_by_head(q, heads), k_HSD.transpose(1, 2))
            both = torch.cat([seen.view(len(q), q.shape[1], -1), own], -1)
            both[..., -mask.shape[1] :].add_(mask)
            weights = torch.softmax(both, -1)
            at_S, at_T = weights.split([k_HSD.shape[1], q.shape[1]], -1)
            out = torch.bmm(at_T, v)
            out += torch.bmm(_by_head(at_S, heads), v_HSD).view_as(out)
        ctx.save_for_backward(q, k, v, weights, *prefix)
        cast("Any", ctx).heads = heads
        return _by_head(out, heads)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_HPD: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, weights, *prefix = ctx.saved_tensors
        grad = grad_HPD.reshape(q.shape)
        if not prefix:
            scores = _softmax_backward(torch.bmm(grad, v.transpose(1, 2)), weights)
            return (
                torch.bmm(scores, k),
                torch.bmm(scores.transpose(1, 2), q),
                torch.bmm(weights.transpose(1, 2), grad),
                None,
                None,
            )
        k_HSD, v_HSD = prefix
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


def _by_query_heads(q_HPD: Tensor, *others_GPD: Tensor) -> tuple[Tensor, ...]:
    """All of (H, P, D): heads of keys and values are repeated."""
    repeats = len(q_HPD) // len(others_GPD[0])
    if repeats == 1:
        return q_HPD, *others_GPD
    return q_HPD, *(tensor.repeat_interleave(repeats, dim=0) for tensor in others_GPD)


def _by_head(tensor: Tensor, heads: int) -> Tensor:
    """(H B, T, X) -> (H, B T, X)."""
    return tensor.reshape(heads, -1, tensor.shape[-1])


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    return torch._softmax_backward_data(grad, weights, -1, weights.dtype)  # pyright: ignore  # noqa: SLF001, PGH003


def _pad(tensor_HND: Tensor, blocks: Blocks) -> Tensor:
    """(H, N, D) -> (H, P, D): the row with blocks padded."""
    if blocks.at_P is None:
        return tensor_HND
    return cast("Tensor", _TakeTokens.apply(tensor_HND, blocks.at_P, blocks.where_N, False))


def _unpad(tensor_HPD: Tensor, blocks: Blocks) -> Tensor:
    """(H, P, D) -> (H, N, D): the row without padding."""
    if blocks.at_P is None:
        return tensor_HPD
    return cast("Tensor", _TakeTokens.apply(tensor_HPD, blocks.where_N, blocks.at_P, True))


class _TakeTokens(torch.autograd.Function):
    """Take tokens (dim 1) of `tensor`; the backward pass takes them back, without adding.

    Padding copies some tokens, but nothing reads the copies: their gradient is zero, and a token's
    whole gradient is at its own place. Unpadding drops the copies, so their gradient is zero again.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, take: Tensor, back: Tensor, unpads: bool) -> Tensor:
        ctx.save_for_backward(take, back)
        ctx.unpads = unpads
        return tensor.index_select(1, take)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        take, back = ctx.saved_tensors
        if not ctx.unpads:
            return grad.index_select(1, back), None, None, None
        zeros = grad.new_zeros(grad.shape[0], len(back), grad.shape[2])
        return zeros.index_copy_(1, take, grad), None, None, None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, scores: Scores
) -> Tensor:
    varlen = layout.varlen
    q_NHD, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if varlen.at is not None:
        # By way of fp32: a shared prefix's gradient sums over all documents after it.
        k, v = (t.float().index_select(0, varlen.at).to(t.dtype) for t in (k, v))
    return varlen_attention(q_NHD, k, v, varlen, scores.scale, scores.window).unsqueeze(0)
