"""Cross-entropy of the trained positions, computed in chunks without the full logits.

An objective turns hidden states or logits into losses. `Forward` (`model/forward.py`) runs the
model and knows only the `Objective` protocol, so that another objective is another class here. M is
the trained tokens of a micro-batch, C the model's width, V the vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.model.kernels import fused_ops
from headway.model.sizes import LOGITS_BYTES


class Objective(Protocol):
    """What a model is trained to minimize."""

    def summed_loss(
        self,
        hidden_MC: Tensor,
        head: nn.Linear,
        targets_M: Tensor,
        scale: float,
        *,
        compiled: bool,
    ) -> Tensor:
        """The sum of all losses times `scale`, fp32, differentiable."""
        ...

    def losses(self, hidden_MC: Tensor, head: nn.Linear, targets_M: Tensor) -> Tensor:
        """(M,) fp32, one loss per target."""
        ...

    def losses_of_logits(self, logits_MV: Tensor, targets_M: Tensor) -> Tensor:
        """(M,) fp32, one loss per target, for models that compute their own logits."""
        ...


class CrossEntropy:
    """Cross-entropy in nats; an `Objective`."""

    def summed_loss(
        self,
        hidden_MC: Tensor,
        head: nn.Linear,
        targets_M: Tensor,
        scale: float,
        *,
        compiled: bool,
    ) -> Tensor:
        """See `Objective`."""
        # The compiler would make a second function for a single row.
        compiled = compiled and len(hidden_MC) > 1
        loss_gradient = fused_ops.compiled_loss_gradient if compiled else fused_ops.loss_gradient
        inputs = hidden_MC, head.weight, head.bias, targets_M, scale, loss_gradient
        return cast("Tensor", _SummedLoss.apply(*inputs))

    def losses(self, hidden_MC: Tensor, head: nn.Linear, targets_M: Tensor) -> Tensor:
        """See `Objective`."""
        losses = [
            self.losses_of_logits(head(hidden_MC[chunk]), targets_M[chunk])
            for chunk in _chunks(len(hidden_MC), len(head.weight))
        ]
        return torch.cat(losses) if losses else hidden_MC.new_zeros(0, dtype=torch.float32)

    def losses_of_logits(self, logits_MV: Tensor, targets_M: Tensor) -> Tensor:
        """See `Objective`."""
        return F.cross_entropy(logits_MV.float(), targets_M, reduction="none")


class _SummedLoss(torch.autograd.Function):
    """scale * sum of the cross-entropy of (M, C) against targets, by a linear head (V, C).

    Logits exist for one chunk of M at a time. The gradient is computed in the forward pass, because
    its only other factor, the gradient of the sum, is a single number (Hsu et al. 2024,
    arXiv:2410.10989).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_MC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        targets_M: Tensor,
        scale: float,
        loss_gradient: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        total = hidden_MC.new_zeros((), dtype=torch.float32)
        grad_hidden = torch.empty_like(hidden_MC) if needs_hidden else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(weight_VC[:, 0], dtype=torch.float32) if needs_bias else None
        chunks = list(_chunks(len(hidden_MC), len(weight_VC)))
        factor = torch.full_like(total, scale)
        for chunk in chunks:
            hidden = hidden_MC[chunk]
            grad = F.linear(hidden, weight_VC, bias_V)
            total += loss_gradient(grad, targets_M[chunk, None], factor)
            if grad_hidden is not None:
                torch.mm(grad, weight_VC, out=grad_hidden[chunk])
            if needs_weight and len(chunks) == 1:
                grad_weight = grad.t() @ hidden
            elif needs_weight:  # summed over chunks in fp32
                product = grad.t() @ hidden
                grad_weight = product.float() if grad_weight is None else grad_weight.add_(product)
            if grad_bias is not None:
                grad_bias += grad.sum(0, dtype=torch.float32)
        ctx.gradients = grad_hidden, grad_weight, grad_bias
        ctx.dtypes = weight_VC.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.gradients
        del ctx.gradients
        # On a GPU, reading the factor would wait for all pending work.
        if grad.is_cuda or float(grad) != 1.0:
            hidden, weight, bias = (
                g if g is None else g.mul_(grad) for g in (hidden, weight, bias)
            )
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            hidden,
            None if weight is None else weight.to(weight_dtype),
            None if bias is None else bias.to(bias_dtype),
            None,
            None,
            None,
        )


def _chunks(num: int, vocab: int) -> Iterator[slice]:
    """Slices of M of even sizes; the fp32 logits of one take at most `LOGITS_BYTES`."""
    most = max(16, LOGITS_BYTES // (4 * vocab))
    num_chunks = -(-num // most)
    for i in range(num_chunks):
        yield slice(num * i // num_chunks, num * (i + 1) // num_chunks)
