"""RMSNorm, rotary embedding and loss gradient, eager and compiled.

Everything but matrix products waits for memory. These functions make fewer passes over it than the
models' own code. Before one replaces a model's function, both are compared on random inputs, so
that a model with another kind of norm keeps its own.

Compiling fuses each function into a single loop (Ansel et al. 2024, ASPLOS,
doi:10.1145/3620665.3640366). It takes seconds whatever the model is, and works for any number of
rows, so that nothing is compiled again later in a run. Within a whole layer that is compiled
(`model/kernels/compiled_layers.py`), they are plain expressions, for the compiler to fuse. R is
rows, C a norm's width, V the vocabulary, D a head's size.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.model.sizes import CACHED_BYTES

_MISMATCH = (RuntimeError, TypeError, ValueError, AttributeError)


def use_fused_ops(model: nn.Module) -> None:
    """Replace RMSNorms and rotary embeddings by equivalent ones with fewer memory passes."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and _is_rms_norm(module):
            # Bound, so that a deep copy of the module gets its own.
            module.forward = MethodType(_rms_norm, module)
    for name in {type(module).__module__ for module in model.modules()}:
        own = sys.modules[name]
        rotate = getattr(own, "apply_rotary_pos_emb", None)
        if rotate is not None and rotate is not apply_rotary and _is_rotary(rotate):
            cast("Any", own).apply_rotary_pos_emb = apply_rotary


def compile_norms(model: nn.Module, enabled: bool) -> None:
    """Compile the RMSNorms that were replaced, or run them uncompiled again."""
    variants = _rms_norm, _compiled_rms_norm
    for module in model.modules():
        if getattr(module.forward, "__func__", None) in variants:
            module.forward = MethodType(variants[enabled], module)


# -- RMSNorm ---------------------------------------------------------------------------------


def compiled_rms_norm(hidden: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """Torch's `rms_norm`, compiled: hidden / sqrt(mean(hidden^2) + epsilon) * weight.

    Args:
        hidden: (..., C).
        weight_C: in the same number format.
        epsilon: added to the mean.
    """
    return _CompiledRmsNorm.apply(hidden, weight_C, epsilon)  # pyright: ignore[reportReturnType]


class _CompiledRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
        rows_RC = hidden.detach().reshape(-1, hidden.shape[-1])
        out_RC, root_R1 = _compiled(_norm)(_any_number(rows_RC), weight_C.detach(), epsilon)
        ctx.save_for_backward(hidden, weight_C, root_R1)
        return out_RC.view_as(hidden)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight_C, root_R1 = ctx.saved_tensors
        rows = (t.detach().reshape(-1, t.shape[-1]) for t in (grad, hidden, root_R1))
        grad_RC, hidden_RC, root_R1 = (_any_number(t.contiguous()) for t in rows)
        to_hidden, to_weight = _compiled(_norm_backward)(
            grad_RC, hidden_RC, root_R1, weight_C.detach()
        )
        return to_hidden.view_as(hidden), to_weight if ctx.needs_input_grad[1] else None, None


def _norm(hidden_RC: Tensor, weight_C: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    hidden = hidden_RC.float()
    root_R1 = torch.rsqrt(hidden.square().mean(-1, keepdim=True) + epsilon)
    return (hidden * root_R1 * weight_C.float()).to(hidden_RC.dtype), root_R1


def _norm_backward(
    grad_RC: Tensor, hidden_RC: Tensor, root_R1: Tensor, weight_C: Tensor
) -> tuple[Tensor, Tensor]:
    grad, normal = grad_RC.float(), hidden_RC.float() * root_R1
    scaled = grad * weight_C.float()
    to_hidden = root_R1 * (scaled - normal * (scaled * normal).mean(-1, keepdim=True))
    return to_hidden.to(hidden_RC.dtype), (grad * normal).sum(0).to(weight_C.dtype)


def _rms_norm(module: Any, hidden: Tensor) -> Tensor:
    return F.rms_norm(hidden, module.weight.shape, module.weight, _epsilon(module))


def _compiled_rms_norm(module: Any, hidden: Tensor) -> Tensor:
    # The compiler would make a second function for a single row. Without gradients, the eager one
    # keeps a probe's loss the same whether training is compiled or not.
    is_plain = torch.compiler.is_compiling() or not torch.is_grad_enabled()
    if is_plain or hidden.numel() < 2 * hidden.shape[-1]:
        return _rms_norm(module, hidden)
    return compiled_rms_norm(hidden, module.weight, _epsilon(module))


def _epsilon(module: Any) -> float:
    return getattr(module, "variance_epsilon", getattr(module, "eps", 1e-6))


def _is_rms_norm(module: Any) -> bool:
    """Whether it computes x / sqrt(mean(x^2) + epsilon) * weight. Gemma's, for one, does not."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1:
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scales = torch.tensor([[1.0], [1e-2], [1e-3]])  # epsilon matters only for small numbers
        hidden = (torch.randn(3, len(weight)) * scales).to(weight)
        try:
            theirs = module.forward(hidden)
            ours = _rms_norm(module, hidden)
        except _MISMATCH:
            return False
        return _is_close(theirs, ours)


# -- rotary embedding ------------------------------------------------------------------------


def apply_rotary(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys by their positions (Su et al. 2021, arXiv:2104.09864).

    Args:
        q: (..., D), heads in dim `unsqueeze_dim`.
        k: likewise.
        cos: of the angles, without heads; both halves of D are the same.
        sin: likewise.
        unsqueeze_dim: the dim of the heads.
    """
    cos, sin = (t.unsqueeze(unsqueeze_dim).chunk(2, dim=-1)[0] for t in (cos, sin))
    if torch.compiler.is_compiling():
        return _rotated(q, cos, sin), _rotated(k, cos, sin)
    return tuple(cast("Tensor", _Rotary.apply(t, cos, sin)) for t in (q, k))  # pyright: ignore[reportReturnType]


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(tensor, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotate(grad, cos, sin, -1), None, None


def _rotate(tensor: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    out = torch.empty_like(tensor)
    (left, right), (out_left, out_right) = tensor.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(left, cos, out=out_left).addcmul_(right, sin, value=-direction)
    torch.mul(right, cos, out=out_right).addcmul_(left, sin, value=direction)
    return out


def _rotated(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = tensor.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def _is_rotary(rotate: Callable[..., Any]) -> bool:
    """Whether it rotates the two halves of a head against each other. GLM's, for one, does not."""
    names = [list(inspect.signature(one).parameters) for one in (rotate, apply_rotary)]
    if names[0] != names[1]:
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 1, 3, 8)
        angles = torch.randn(1, 3, 4).repeat(1, 1, 2)
    try:
        theirs = rotate(q, k, angles.cos(), angles.sin())
    except _MISMATCH:
        return False
    if not all(map(_is_close, theirs, apply_rotary(q, k, angles.cos(), angles.sin()))):
        return False
    try:  # a function that also rotates only a part of each head does more than ours
        rotate(q.repeat(1, 1, 1, 2), k.repeat(1, 1, 1, 2), angles.cos(), angles.sin())
    except _MISMATCH:
        return True
    return False


def _is_close(theirs: object, ours: Tensor) -> bool:
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    return torch.allclose(theirs, ours, rtol=1e-5, atol=1e-5)


# -- the loss and its gradient ---------------------------------------------------------------


def loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    """The summed cross-entropy of logits, which are overwritten by their gradient.

    Args:
        logits_RV: becomes the gradient of the loss, times `scale`.
        targets_R1: int64.
        scale: fp32, a single number.

    Returns:
        The loss times `scale`: fp32, a single number.
    """
    total = torch.zeros_like(scale)
    cached_rows = max(16, CACHED_BYTES // (4 * logits_RV.shape[1]))
    most = len(logits_RV) if logits_RV.is_cuda else cached_rows  # pieces that stay in the cache
    for logits, targets in zip(logits_RV.split(most), targets_R1.split(most), strict=True):
        log_probabilities = F.log_softmax(logits, -1, dtype=torch.float32)
        total -= log_probabilities.gather(1, targets).sum()
        probabilities = log_probabilities.exp_()
        probabilities.scatter_add_(1, targets, probabilities.new_full(targets.shape, -1.0))
        logits.copy_(probabilities.mul_(scale))
    return total * scale


def compiled_loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    """`loss_gradient`, compiled."""
    return _compiled(_loss_gradient)(_any_number(logits_RV), _any_number(targets_R1), scale)


def _loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    log_probabilities = torch.log_softmax(logits_RV.float(), -1)
    total = -log_probabilities.gather(1, targets_R1).sum() * scale
    vocabulary = torch.arange(log_probabilities.shape[1], device=log_probabilities.device)
    is_target = vocabulary == targets_R1
    logits_RV.copy_((log_probabilities.exp() - is_target.float()) * scale)
    return total


# -- the compiler ----------------------------------------------------------------------------


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Static except for what is marked dynamic: a known width gives a faster loop. The trainer's
    # environment keeps the compiler to one process (`supervise/child.py`).
    return torch.compile(function, dynamic=False, fullgraph=True)


def _any_number(rows: Tensor) -> Tensor:
    """Mark the number of rows as dynamic, so that other numbers reuse the compiled function."""
    from torch import _dynamo

    _dynamo.mark_dynamic(rows, 0)
    return rows
