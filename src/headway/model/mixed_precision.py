"""Mixed precision: bf16 copies of fp32 weights.

Matrix products use the copies; the optimizer updates the weights. An update smaller than half a
bf16 step would be lost in bf16 weights. In fp32 it adds up until it shows in the copy. Frozen
weights are never updated and are held in bf16 only.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from headway.model.kernels.tensor_lists import add_to, converted, copy_to, groups


class MixedPrecisionCopies:
    """A model's twin that computes in bf16, and the way its gradients reach the fp32 weights.

    Trainable embeddings are looked up in the fp32 weights themselves: the gradient of a frequent
    token sums over many positions, and a bf16 sum stops growing once it is 256 times the addend.

    Args:
        model: holds the fp32 weights; frozen ones, which may be in 16 bits, are rounded to `dtype`
            until `restore_weights`.
        dtype: of the copies.

    Attributes:
        model: the twin.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        weights = [p for p in model.parameters() if p.requires_grad]
        self._frozen = [
            (p, _round_in_place(p, dtype))
            for p in model.parameters()
            if not p.requires_grad and p.is_floating_point()
        ]
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        self._weights = [p for p in weights if id(p) not in embeddings]
        self._copies = [nn.Parameter(p.detach().to(dtype)) for p in self._weights]
        # deepcopy takes the memo's entries for copies it has already made.
        memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
        memo |= {id(p): twin for p, twin in zip(self._weights, self._copies, strict=True)}
        self.model = copy.deepcopy(model, memo)
        self._untie_head(embeddings, dtype)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding) and module.weight.dtype != dtype:
                module.register_forward_hook(lambda _m, _i, found: found.to(dtype))

    def _untie_head(self, embeddings: set[int], dtype: torch.dtype) -> None:
        """Give a head that is tied to a trainable embedding a copy to multiply with."""
        head = cast("Any", self.model).get_output_embeddings()
        if head is None or id(head.weight) not in embeddings or not head.weight.requires_grad:
            return
        self._weights.append(head.weight)
        head.weight = nn.Parameter(head.weight.detach().to(dtype))
        self._copies.append(head.weight)

    def release_exact_weights(self) -> None:
        """Free the saved rounding error of frozen weights: bf16 is settled."""
        self._frozen = [(p, None) for p, _ in self._frozen]

    def restore_weights(self) -> None:
        """Make frozen weights fp32 again; exactly, unless `release_exact_weights` was called."""
        for p, exact in self._frozen:
            p.data = (p.data if exact is None else exact).float()

    def refresh_copies(self) -> None:
        """After an update: round the weights into the copies."""
        copy_to(self._copies, self._weights)

    def discard_gradients(self) -> None:
        """After an abandoned pass: forget its gradients."""
        for twin in self._copies:
            twin.grad = None

    def collect_gradients(self) -> None:
        """After a backward pass: add its gradients to those of the weights, in fp32."""
        for part in groups(self._weights):
            _collect(self._weights[part], self._copies[part])


def _collect(weights: Sequence[nn.Parameter], copies: Sequence[nn.Parameter]) -> None:
    first: list[tuple[nn.Parameter, Tensor]] = []
    sums, more = list[Tensor](), list[Tensor]()
    for weight, twin in zip(weights, copies, strict=True):
        grad: Tensor | None = twin.grad
        twin.grad = None
        if grad is None:
            continue
        if weight.grad is None:
            first.append((weight, grad))
        else:
            sums.append(weight.grad)
            more.append(grad)
    add_to(sums, more)
    exact = converted([grad for _, grad in first], torch.float32)
    for (weight, _), grad in zip(first, exact, strict=True):
        weight.grad = grad


def _round_in_place(frozen: nn.Parameter, dtype: torch.dtype) -> Tensor | None:
    """Round a weight; returns its exact values where rounding changed any."""
    exact = frozen.data
    frozen.data = exact.to(dtype)
    return None if torch.equal(frozen.data.float(), exact.float()) else exact
