"""Opaque attention: packed attention as one operation of a compiled graph, forward and backward.

The compiler must not look into it: what it computes depends on where documents begin, and a graph
would be compiled again for each micro-batch. The layout goes in by its handle. N is the row's
tokens, H the heads, G the heads of keys and values, D a head's size.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from headway.model.attention_layout import AttentionLayout
from headway.model.kernels.packed_attention import Scores, packed_attention
from headway.model.kernels.varlen import returns_logsumexp, varlen_backward, varlen_forward

_TENSORS = "Tensor query, Tensor key, Tensor value, Tensor? sinks, Tensor layout"
_SCORES = "float scale, float dropout, SymInt? window, float? softcap"
_FORWARD, _BACKWARD = "headway::attention", "headway::attention_backward"
# Draws of dropout are from a seed that is itself drawn: two calls with the same inputs differ.
torch.library.define(
    _FORWARD,
    f"({_TENSORS}, {_SCORES}) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),
)
torch.library.define(
    _BACKWARD,
    f"({_TENSORS}, Tensor grad, Tensor out, Tensor logsumexp, Tensor seed, {_SCORES})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
_ANY_DEVICE = "CompositeExplicitAutograd"


def opaque_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, scores: Scores
) -> Tensor:
    """`packed_attention`, as one operation; somebody holds the layout until the backward pass."""
    return torch.ops.headway.attention(
        query,
        key,
        value,
        scores.sinks_H,
        layout.handle,
        scores.scale,
        scores.dropout,
        scores.window,
        scores.softcap,
    )[0]


@torch.library.impl(_FORWARD, _ANY_DEVICE)
def _attend(
    query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, handle: Tensor, *given: Any
) -> tuple[Tensor, Tensor, Tensor]:
    layout, scores = AttentionLayout.find(handle), Scores(*given, sinks_H=sinks)
    if _keeps_logsumexp(query, scores):
        varlen = layout.varlen
        q_NHD, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
        if varlen.at is not None:
            k, v = (t.index_select(0, varlen.at) for t in (k, v))
        out, logsumexp = varlen_forward(q_NHD, k, v, varlen, scores.scale, scores.window)
        return out.contiguous().unsqueeze(0), logsumexp, _no_seed()
    seed = torch.randint(1 << 62, ()) if scores.dropout else _no_seed()
    with torch.no_grad(), _drawn_from(seed, query, scores):
        out = packed_attention(query, key, value, layout, scores)
    return out, _nothing(query), seed


@torch.library.impl(_BACKWARD, _ANY_DEVICE)
def _attend_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    handle: Tensor,
    grad: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    seed: Tensor,
    *given: Any,
) -> tuple[Tensor, ...]:
    layout, scores = AttentionLayout.find(handle), Scores(*given, sinks_H=sinks)
    if _keeps_logsumexp(query, scores):
        tensors = query, key, value
        gradients = _varlen_gradients(grad, tensors, layout, out, logsumexp, scores)
        return (*gradients, _nothing(query))
    # Once more with autograd: all kernels, and whatever they keep, stay as they are.
    with torch.enable_grad(), _drawn_from(seed, query, scores):
        leaves = [t.detach().requires_grad_() for t in (query, key, value, sinks) if t is not None]
        scores = replace(scores, sinks_H=None if sinks is None else leaves[3])
        again = packed_attention(leaves[0], leaves[1], leaves[2], layout, scores)
    gradients = tuple(t.contiguous() for t in torch.autograd.grad(again, leaves, grad))
    return gradients if sinks is not None else (*gradients, _nothing(query))


def _varlen_gradients(
    grad: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor],
    layout: AttentionLayout,
    out: Tensor,
    logsumexp: Tensor,
    scores: Scores,
) -> tuple[Tensor, ...]:
    varlen = layout.varlen
    q, k, v = (t[0].transpose(0, 1) for t in tensors)
    num, at = len(k), varlen.at
    if at is not None:
        k, v = (t.index_select(0, at) for t in (k, v))
    gradients = varlen_backward(
        grad[0], (q, k, v), out[0], logsumexp, varlen, scores.scale, scores.window
    )
    to_q, to_k, to_v = gradients
    if at is not None:  # a shared prefix's gradient is summed in fp32
        sums = (t.new_zeros(num, *t.shape[1:], dtype=torch.float32) for t in (to_k, to_v))
        to_k, to_v = (
            total.index_add_(0, at, t.float()).to(t.dtype)
            for total, t in zip(sums, (to_k, to_v), strict=True)
        )
    return tuple(t.transpose(0, 1).contiguous().unsqueeze(0) for t in (to_q, to_k, to_v))


# -- what the compiler knows about it --------------------------------------------------------


@torch.library.register_fake(_FORWARD)
def _shapes(
    query: Tensor, _key: Tensor, _value: Tensor, sinks: Tensor | None, _handle: Tensor, *given: Any
) -> tuple[Tensor, Tensor, Tensor]:
    out = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
    keeps = _keeps_logsumexp(query, Scores(*given, sinks_H=sinks))
    logsumexp = _logsumexp_of(query) if keeps else _nothing(query)
    return out, logsumexp, _no_seed()


@torch.library.register_fake(_BACKWARD)
def _gradient_shapes(
    query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, *_: Any
) -> tuple[Tensor, ...]:
    to_sinks = _nothing(query) if sinks is None else sinks.new_empty(sinks.shape)
    return (*(t.new_empty(t.shape) for t in (query, key, value)), to_sinks)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, ctx.scores = inputs[:5], inputs[5:]
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, out, logsumexp, seed = ctx.saved_tensors
    *gradients, to_sinks = torch.ops.headway.attention_backward(
        *tensors, grad.contiguous(), out, logsumexp, seed, *ctx.scores
    )
    to_sinks = None if tensors[3] is None else to_sinks
    return (*gradients, to_sinks, *(None,) * (1 + len(ctx.scores)))


torch.library.register_autograd(_FORWARD, _backward, setup_context=_keep_for_backward)


# -- parts -----------------------------------------------------------------------------------


def _keeps_logsumexp(query: Tensor, scores: Scores) -> bool:
    return scores.are_plain and returns_logsumexp(query)


def _logsumexp_of(query: Tensor) -> Tensor:
    return query.new_empty(query.shape[1], query.shape[2], dtype=torch.float32)


def _nothing(query: Tensor) -> Tensor:
    return query.new_empty(0, dtype=torch.float32)


def _no_seed() -> Tensor:
    return torch.zeros((), dtype=torch.int64)


@contextmanager
def _drawn_from(seed: Tensor, query: Tensor, scores: Scores) -> Generator[None]:
    """Draw dropout from a seed, the same forward and backward; draws after it go on as before."""
    if not scores.dropout:
        yield
        return
    devices = [query.device] if query.is_cuda else []
    with torch.random.fork_rng(devices=cast("Any", devices)):
        torch.manual_seed(int(seed))
        yield
