"""The same functions in fewer passes over memory, where a model has them in many.

A processor's cores wait for memory in all that is not a matrix product. What replaces something is
compared with it on chance numbers first, so that a model whose norm is another one keeps it.
"""

import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.model import compiled

_NOT_THE_SAME = (RuntimeError, TypeError, ValueError, AttributeError)


def lighten(model: nn.Module) -> None:
    """Replace RMS norms and rotary position embeddings by lighter ones that give the same."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and _is_rms_norm(module):
            module.forward = MethodType(_rms_norm, module)  # bound, so that copies have their own
    for name in {type(module).__module__ for module in model.modules()}:
        own = sys.modules[name]
        rotate = getattr(own, "apply_rotary_pos_emb", None)
        if rotate is not None and rotate is not rotated and _is_rotary(rotate):
            cast("Any", own).apply_rotary_pos_emb = rotated


def compile_norms(model: nn.Module, yes: bool) -> None:
    """Let the RMS norms that were replaced be compiled ones, or not any more."""
    ways = _rms_norm, _compiled_rms_norm
    for module in model.modules():
        if getattr(module.forward, "__func__", None) in ways:
            module.forward = MethodType(ways[yes], module)


def _rms_norm(module: Any, hidden: Tensor) -> Tensor:
    return F.rms_norm(hidden, module.weight.shape, module.weight, _epsilon(module))


def _compiled_rms_norm(module: Any, hidden: Tensor) -> Tensor:
    # A compiler makes another function for a single row; and a probe's loss is the same both ways.
    if hidden.numel() < 2 * hidden.shape[-1] or not torch.is_grad_enabled():
        return _rms_norm(module, hidden)
    return compiled.rms_norm(hidden, module.weight, _epsilon(module))


def _epsilon(module: Any) -> float:
    return getattr(module, "variance_epsilon", getattr(module, "eps", 1e-6))


def _is_rms_norm(module: Any) -> bool:
    """Whether it is x / sqrt(mean(x^2) + epsilon) * weight; Gemma's, for one, is not."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1:
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = torch.tensor([[1.0], [1e-2], [1e-3]])  # epsilon shows in small numbers alone
        hidden = (torch.randn(3, len(weight)) * sizes).to(weight)
        try:
            theirs = module.forward(hidden)
            ours = _rms_norm(module, hidden)
        except _NOT_THE_SAME:
            return False
        return _same(theirs, ours)


def rotated(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Turn queries and keys by their positions (Su et al. 2021, arXiv:2104.09864).

    Args:
        q: (..., D), heads in dim `unsqueeze_dim`.
        k: likewise.
        cos: of the angles, without the heads; both halves of D have the same.
        sin: likewise.
        unsqueeze_dim: where the heads are.
    """
    cos, sin = (t.unsqueeze(unsqueeze_dim).chunk(2, dim=-1)[0] for t in (cos, sin))
    return tuple(cast("Tensor", _Rotated.apply(t, cos, sin)) for t in (q, k))  # pyright: ignore[reportReturnType]


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(tensor, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, -1), None, None


def _turned(tensor: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    out = torch.empty_like(tensor)
    (left, right), (to_left, to_right) = tensor.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(left, cos, out=to_left).addcmul_(right, sin, value=-way)
    torch.mul(right, cos, out=to_right).addcmul_(left, sin, value=way)
    return out


def _is_rotary(rotate: Callable[..., Any]) -> bool:
    """Whether it turns the two halves of a head against each other; GLM's, for one, does not."""
    names = [list(inspect.signature(one).parameters) for one in (rotate, rotated)]
    if names[0] != names[1]:
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 1, 3, 8)
        angles = torch.randn(1, 3, 4).repeat(1, 1, 2)
    try:
        theirs = rotate(q, k, angles.cos(), angles.sin())
    except _NOT_THE_SAME:
        return False
    if not all(map(_same, theirs, rotated(q, k, angles.cos(), angles.sin()))):
        return False
    try:  # one that also turns a part of each head does more than ours
        rotate(q.repeat(1, 1, 1, 2), k.repeat(1, 1, 1, 2), angles.cos(), angles.sin())
    except _NOT_THE_SAME:
        return True
    return False


def _same(theirs: object, ours: Tensor) -> bool:
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    return torch.allclose(theirs, ours, rtol=1e-5, atol=1e-5)
