"""Cross-entropy of the trained positions alone, without the full logits, summed in fp32.

`Forward` is the one way a micro-batch goes through a model: for training, for probes and for
evaluation. T is tokens of a document, N of a micro-batch, M the trained ones of these, C the
model's width, V the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.base.documents import DocumentGroup
from headway.model import attention, compiled
from headway.model.attention_layout import AttentionLayout
from headway.model.fused_ops import compile_norms, lighten
from headway.model.mixed_precision import Copies
from headway.model.sizes import CACHED_BYTES, LOGITS_BYTES


class Packed(Protocol):
    """What `forward` needs of a micro-batch; every tensor is on the model's device."""

    @property
    def ids_N(self) -> Tensor: ...  # noqa: D102
    @property
    def positions_N(self) -> Tensor: ...  # noqa: D102
    @property
    def trained_at_M(self) -> Tensor: ...  # noqa: D102
    @property
    def targets_M(self) -> Tensor: ...  # noqa: D102
    @property
    def documents(self) -> Sequence[DocumentGroup]: ...  # noqa: D102


class Forward:
    """How micro-batches run through one model.

    Args:
        weights: a transformers causal model, with adapters or without, in fp32.

    Attributes:
        weights: what is updated and saved.
        model: what computes: `weights` itself, or its twin in a smaller number format.
        own_attention: the implementation it was loaded with.
        separately: each document runs by itself, for a model whose layers let documents in one
            row see each other in spite of the attention.
        own_logits: the model makes its logits from its last layer in a way of its own.
        compiled: what lies between matrix products is.
    """

    def __init__(self, weights: nn.Module) -> None:
        self.weights = self.model = weights
        self.own_attention = attention.implementation(weights)
        self.separately = self.compiled = False
        self._copies: Copies | None = None
        self._take_up(weights)

    def _take_up(self, model: nn.Module) -> None:
        self.model = model
        lighten(model)
        plain: Any = model
        whole: Any = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        self._head = plain.get_output_embeddings()
        self._layers = getattr(whole, getattr(whole, "base_model_prefix", "") or "model", None)
        self.own_logits = self._layers is None or type(self._head) is not nn.Linear
        self.run_separately(self.separately)
        self.compile(self.compiled)

    # -- how it computes ---------------------------------------------------------------------

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute in a smaller number format, or in fp32 again.

        The weights stay fp32; frozen ones do not, but come back as they were until `keep`.
        """
        if self._copies:
            self._copies.undo()
        elif dtype == torch.float32:
            return
        own_logits = self.own_logits
        self._copies = None if dtype == torch.float32 else Copies(self.weights, dtype)
        self._take_up(self._copies.model if self._copies else self.weights)
        self.own_logits |= own_logits

    def keep(self) -> None:
        """It computes like this from now on: memory for a way back is given back."""
        if self._copies:
            self._copies.keep()

    def run_separately(self, yes: bool = True) -> None:
        """Run documents one by one through the model's own attention, or packed again."""
        self.separately = yes
        attention.use(self.model, self.own_attention if yes else attention.NAME)

    def compile(self, yes: bool = True) -> None:
        """Compile norms and the loss on their next use, or run them as written again."""
        self.compiled = yes
        compile_norms(self.model, yes)

    def refresh(self) -> None:
        """The weights were changed: compute with what they are now."""
        if self._copies:
            self._copies.refresh()

    def collect(self) -> None:
        """A backward pass is done: bring its gradients to the weights."""
        if self._copies:
            self._copies.collect()

    def drop(self) -> None:
        """A pass was given up: no gradient of it reaches the weights."""
        if self._copies:
            self._copies.drop()

    # -- a micro-batch -----------------------------------------------------------------------

    def loss(self, micro: Packed, num_trained: int) -> Tensor:
        """A micro-batch's part of the mean loss over `num_trained` targets, differentiable."""
        if self.separately or self.own_logits:
            return self.losses(micro).sum() / num_trained
        head, hidden_MC = self._head, self._hidden(micro)
        # A compiler makes another function for a single row.
        one_pass = self.compiled and len(hidden_MC) > 1
        gradient = compiled.loss_gradient if one_pass else _loss_gradient
        inputs = hidden_MC, head.weight, head.bias, micro.targets_M, 1 / num_trained, gradient
        return cast("Tensor", _SummedLoss.apply(*inputs))

    def losses(self, micro: Packed) -> Tensor:
        """(M,) fp32 cross-entropy of each trained target, in nats."""
        if self.separately or self.own_logits:
            logits = self._one_by_one(micro) if self.separately else self._logits(micro)
            return F.cross_entropy(logits.float(), micro.targets_M, reduction="none")
        head, hidden_MC = self._head, self._hidden(micro)
        parts = [
            F.cross_entropy(head(hidden_MC[part]).float(), micro.targets_M[part], reduction="none")
            for part in _parts(len(hidden_MC), len(head.weight))
        ]
        return torch.cat(parts) if parts else hidden_MC.new_zeros(0, dtype=torch.float32)

    def _hidden(self, micro: Packed) -> Tensor:
        """(M, C) what the head sees."""
        layers: Any = self._layers
        output = layers(
            input_ids=micro.ids_N[None],
            position_ids=micro.positions_N[None],
            use_cache=False,
            documents=AttentionLayout(micro.documents, micro.ids_N.device),
        )
        return cast("Tensor", _Picked.apply(output[0][0], micro.trained_at_M))

    def _logits(self, micro: Packed) -> Tensor:
        layout = AttentionLayout(micro.documents, micro.ids_N.device)
        return self._own(micro.ids_N, micro.positions_N, micro.trained_at_M, documents=layout)

    def _one_by_one(self, micro: Packed) -> Tensor:
        """(M, V) each document with what it begins with before it."""
        logits: list[Tensor] = []
        order: list[Tensor] = []
        begin = 0
        at_M = micro.trained_at_M
        for group in (one for one in micro.documents for _ in range(one.count)):
            end = begin + group.length
            (mine,) = torch.where((at_M >= begin) & (at_M < end))
            if len(mine):
                spans = [slice(begin, end)]
                if group.prefix:
                    spans.insert(0, group.prefix.slice)
                ids, positions = (
                    torch.cat([tensor_N[span] for span in spans])
                    for tensor_N in (micro.ids_N, micro.positions_N)
                )
                logits.append(self._own(ids, positions, at_M[mine] - end + len(ids)))
                order.append(mine)
            begin = end
        if not order:
            return self._own(micro.ids_N[:1], micro.positions_N[:1], micro.trained_at_M)
        return torch.cat(logits)[torch.cat(order).argsort()]

    def _own(
        self, ids: Tensor, positions: Tensor, keep: Tensor, **documents: AttentionLayout
    ) -> Tensor:
        output: Any = self.model(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=keep,
            **documents,
        )
        return output.logits[0]


class _Picked(torch.autograd.Function):
    """(M, C) rows of (N, C); of a row that is picked repeatedly, gradients are summed in fp32.

    What several documents begin with predicts a target for each of them.
    """

    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, at_M: Tensor) -> Tensor:
        ctx.save_for_backward(at_M)
        ctx.shape = hidden_NC.shape
        return hidden_NC.index_select(0, at_M)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_MC: Tensor
    ) -> tuple[Tensor | None, ...]:
        (at_M,) = ctx.saved_tensors
        # A GPU adds faster than it says whether positions rise.
        if not at_M.is_cuda and bool((at_M.diff() > 0).all()):
            return grad_MC.new_zeros(ctx.shape).index_copy_(0, at_M, grad_MC), None
        sums = grad_MC.new_zeros(ctx.shape, dtype=torch.float32)
        return sums.index_add_(0, at_M, grad_MC.float()).to(grad_MC.dtype), None


class _SummedLoss(torch.autograd.Function):
    """scale * sum of the cross-entropy of (M, C) against targets, by a linear head (V, C).

    Logits exist for a part of M at a time: the gradient is computed on the way there, as its only
    other factor, the gradient of the sum, is one number (Hsu et al. 2024, arXiv:2410.10989).
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
        parts = list(_parts(len(hidden_MC), len(weight_VC)))
        factor = torch.full_like(total, scale)
        for part in parts:
            hidden = hidden_MC[part]
            grad = F.linear(hidden, weight_VC, bias_V)
            total += loss_gradient(grad, targets_M[part, None], factor)
            if grad_hidden is not None:
                torch.mm(grad, weight_VC, out=grad_hidden[part])
            if needs_weight and len(parts) == 1:
                grad_weight = grad.t() @ hidden
            elif needs_weight:  # summed over parts in fp32
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
        # On a GPU, looking at the factor would wait for all that is still to be computed.
        if grad.is_cuda or float(grad) != 1.0:
            hidden, weight, bias = (
                g if g is None else g.mul_(grad) for g in (hidden, weight, bias)
            )
        to_weight, to_bias = ctx.dtypes
        return (
            hidden,
            None if weight is None else weight.to(to_weight),
            None if bias is None else bias.to(to_bias),
            None,
            None,
            None,
        )


def _loss_gradient(logits_RV: Tensor, targets_R1: Tensor, scale: Tensor) -> Tensor:
    """`compiled.loss_gradient`, operation by operation, on pieces that stay in the cache."""
    total = torch.zeros_like(scale)
    cached = max(16, CACHED_BYTES // (4 * logits_RV.shape[1]))
    most = len(logits_RV) if logits_RV.is_cuda else cached
    for logits, targets in zip(logits_RV.split(most), targets_R1.split(most), strict=True):
        logs = F.log_softmax(logits, -1, dtype=torch.float32)
        total -= logs.gather(1, targets).sum()
        chances = logs.exp_()
        chances.scatter_add_(1, targets, chances.new_full(targets.shape, -1.0))
        logits.copy_(chances.mul_(scale))
    return total * scale


def _parts(num: int, vocab: int) -> Iterator[slice]:
    """Slices of M whose logits would take at most `LOGITS_BYTES` in fp32, of even sizes."""
    most = max(16, LOGITS_BYTES // (4 * vocab))
    pieces = -(-num // most)
    for i in range(pieces):
        yield slice(num * i // pieces, num * (i + 1) // pieces)
