"""What lies between a model's matrix products, compiled: one pass over memory for each part.

Eager code reads and writes memory once for every operation; a compiler makes one loop of them
(Ansel et al. 2024, ASPLOS, doi:10.1145/3620665.3640366). What is compiled are small functions of
ours and not a model's layers: they take seconds, whatever the model is, and take any number of
rows, so that nothing is compiled again later in a run. R is rows, C a norm's width, V the
vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(hidden: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """What torch's `rms_norm` gives: hidden / sqrt(mean(hidden^2) + epsilon) * weight.

    Args:
        hidden: (..., C).
        weight_C: of one number format with it.
        epsilon: added to the mean.
    """
    return _RmsNorm.apply(hidden, weight_C, epsilon)  # pyright: ignore[reportReturnType]


class _RmsNorm(torch.autograd.Function):
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


def loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    """The sum of the cross-entropy of logits, which become its gradient times `scale`.

    Args:
        logits_RV: overwritten.
        targets_R1: int64.
        scale: fp32, one number.

    Returns:
        fp32, one number, times `scale`, too.
    """
    return _compiled(_loss_gradient)(_any_number(logits_RV), _any_number(targets_R1), scale)


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


def _loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    logs = torch.log_softmax(logits_RV.float(), -1)
    total = -logs.gather(1, targets_R1).sum() * scale
    is_target = torch.arange(logs.shape[1], device=logs.device) == targets_R1
    logits_RV.copy_((logs.exp() - is_target.float()) * scale)
    return total


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # more would be processes that each import torch
    # Static but for what is marked: a width that is known makes the faster loop.
    return torch.compile(function, dynamic=False, fullgraph=True)


def _any_number(rows: Tensor) -> Tensor:
    """Say that what is compiled for these rows shall take more or fewer of them."""
    from torch import _dynamo

    _dynamo.mark_dynamic(rows, 0)
    return rows
