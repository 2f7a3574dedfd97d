"""Varlen kernel: torch's FlashAttention over documents of different lengths, in each signature.

torch 2.10 takes neither a scale, nor a window, nor fewer heads of keys than of queries; 2.11 takes
the first two, 2.12 all three. N is the row's tokens, K those of all keys, H the heads, G the heads
of keys and values, D a head's size.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from headway.model.attention_layout import AttentionLayout, VarlenLayout

_AMPERE = (8, 0)  # the first generation with FlashAttention
_MOST_HEAD_SIZE = 256
# Head sizes whose backward pass needs the shared memory of an A100 or H100.
_LARGE_HEADS = range(193, 225)
_LARGE_SHARED_MEMORY = ((8, 0), (9, 0))


@dataclass(frozen=True)
class VarlenArguments:
    """Arguments of a release's function, beyond tensors, their offsets and longest lengths."""

    scale: bool
    window: bool
    groups: bool  # fewer heads of keys and values than of queries
    causal: bool  # a flag, in the release without windows

    @staticmethod
    def of(function: Callable[..., object]) -> "VarlenArguments":
        """By its signature."""
        names = inspect.signature(function).parameters
        return VarlenArguments(
            scale="scale" in names,
            window="window_size" in names,
            groups="enable_gqa" in names,
            causal="is_causal" in names,
        )


def can_use_varlen(query: Tensor, window: int | None, layout: AttentionLayout) -> bool:
    """Whether the GPU has the kernel, and it takes this number format, head size and window.

    Args:
        query: (1, H, N, D).
        window: tokens that a token sees, itself included; None for all.
        layout: of the row.
    """
    if not _is_on_capable_gpu(query):
        return False
    takes = _arguments(_function())
    return takes.window or (takes.causal and not (window and window < layout.varlen.longest[1]))


def takes_windows() -> bool:
    """Whether the installed release's kernel computes layers with a sliding window."""
    return _arguments(_function()).window


def varlen_attention(
    q_NHD: Tensor,
    k_KGD: Tensor,
    v_KGD: Tensor,
    layout: VarlenLayout,
    scale: float,
    window: int | None,
) -> Tensor:
    """(N, H, D) causal attention of each document; the last keys are the queries' own.

    Args:
        q_NHD: queries.
        k_KGD: keys; G divides H.
        v_KGD: values.
        layout: where documents begin.
        scale: of the scores.
        window: tokens that a token sees, itself included; None for all.
    """
    function = _function()
    takes = _arguments(function)
    options: dict[str, Any] = {}
    if takes.scale:
        options["scale"] = scale
    elif not math.isclose(folded := scale * math.sqrt(q_NHD.shape[-1]), 1.0):
        q_NHD = q_NHD * folded  # the kernel's own scale is 1/sqrt(D)
    if takes.window:
        options["window_size"] = (window - 1 if window else -1, 0)
    else:
        options["is_causal"] = True
    repeats = q_NHD.shape[1] // k_KGD.shape[1]
    if takes.groups:
        options["enable_gqa"] = repeats > 1
    elif repeats > 1:
        k_KGD, v_KGD = (t.repeat_interleave(repeats, dim=1) for t in (k_KGD, v_KGD))
    out = function(q_NHD, k_KGD, v_KGD, layout.queries, layout.keys, *layout.longest, **options)
    return cast("Tensor", out)


def returns_logsumexp(query: Tensor) -> bool:
    """Whether `varlen_forward` computes these queries: the kernel takes them, windows and groups.

    Args:
        query: (1, H, N, D), which may have no data.
    """
    return _is_on_capable_gpu(query) and _arguments(_function()).groups


def varlen_forward(
    q_NHD: Tensor,
    k_KGD: Tensor,
    v_KGD: Tensor,
    layout: VarlenLayout,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """`varlen_attention` without autograd: what comes out, and (H, N) fp32 for `varlen_backward`.

    The operations are those that torch's `varlen_attn` calls in every release with groups.
    """
    aten = torch.ops.aten
    sequences = (layout.queries, layout.keys, *layout.longest)
    options = _window_options(scale, window)
    is_causal = not window
    out, logsumexp, *_ = aten._flash_attention_forward(  # noqa: SLF001 - there is no public one
        q_NHD, k_KGD, v_KGD, *sequences, 0.0, is_causal, False, **options
    )
    return out, logsumexp


def varlen_backward(
    grad_NHD: Tensor,
    tensors: tuple[Tensor, Tensor, Tensor],
    out_NHD: Tensor,
    logsumexp_HN: Tensor,
    layout: VarlenLayout,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values.

    Args:
        grad_NHD: of what came out.
        tensors: queries, keys and values, as for `varlen_forward`.
        out_NHD: what came out.
        logsumexp_HN: likewise.
        layout: where documents begin.
        scale: of the scores.
        window: tokens that a token sees, itself included; None for all.
    """
    aten = torch.ops.aten
    sequences = (layout.queries, layout.keys, *layout.longest)
    no_dropout = grad_NHD.new_zeros(2, dtype=torch.uint64), grad_NHD.new_empty(0)
    return aten._flash_attention_backward(  # noqa: SLF001 - there is no public one
        grad_NHD,
        *tensors,
        out_NHD,
        logsumexp_HN,
        *sequences,
        0.0,
        not window,
        *no_dropout,
        **_window_options(scale, window),
    )


def _window_options(scale: float, window: int | None) -> dict[str, Any]:
    left = window - 1 if window else -1
    return {"scale": scale, "window_size_left": left, "window_size_right": 0}


@functools.cache
def _arguments(function: Callable[..., object]) -> VarlenArguments:
    return VarlenArguments.of(function)


def _function() -> Callable[..., object]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def _is_on_capable_gpu(query: Tensor) -> bool:
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    size, capability = query.shape[-1], torch.cuda.get_device_capability(query.device)
    if size in _LARGE_HEADS and capability not in _LARGE_SHARED_MEMORY:
        return False
    return size % 8 == 0 and size <= _MOST_HEAD_SIZE and capability >= _AMPERE
