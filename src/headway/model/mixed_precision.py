"""bf16 copies of fp32 weights: products are computed with the copies, updates reach the weights.

An update smaller than half a bf16 step would be lost in bf16 weights; here it adds up in fp32 until
it shows in the copy. Frozen weights are never updated and are held in bf16 alone.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn


class Copies:
    """A model's twin that computes in bf16, and the way back from its gradients.

    Trainable embeddings are looked up in the fp32 weights themselves: a frequent token's gradient
    is a sum over many places, and a sum in bf16 stands still once it is 256 times what is added.

    Args:
        model: holds the fp32 weights; those that are frozen become `dtype` until `undo`.
        dtype: of the copies.

    Attributes:
        model: the twin.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        weights = [p for p in model.parameters() if p.requires_grad]
        self._frozen = [
            (p, _rounded(p, dtype))
            for p in model.parameters()
            if not p.requires_grad and p.dtype == torch.float32
        ]
        looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        self._weights = [p for p in weights if id(p) not in looked_up]
        self._copies = [nn.Parameter(p.detach().to(dtype)) for p in self._weights]
        # deepcopy takes what its memo has for a copy that was made already.
        memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
        memo |= {id(p): mine for p, mine in zip(self._weights, self._copies, strict=True)}
        self.model = copy.deepcopy(model, memo)
        self._untie(looked_up, dtype)
        for module in self.model.modules():
            if isinstance(module, nn.Embedding) and module.weight.dtype != dtype:
                module.register_forward_hook(lambda _m, _i, found: found.to(dtype))

    def _untie(self, looked_up: set[int], dtype: torch.dtype) -> None:
        """A head that is a trainable embedding's weights gets a copy to multiply with."""
        head = cast("Any", self.model).get_output_embeddings()
        if head is None or id(head.weight) not in looked_up or not head.weight.requires_grad:
            return
        self._weights.append(head.weight)
        head.weight = nn.Parameter(head.weight.detach().to(dtype))
        self._copies.append(head.weight)

    def keep(self) -> None:
        """These copies stay: the memory of what rounding took from frozen weights is given back."""
        self._frozen = [(p, None) for p, _ in self._frozen]

    def undo(self) -> None:
        """Frozen weights are fp32 again; exactly as they were, unless `keep` was called."""
        for p, exact in self._frozen:
            p.data = p.data.float() if exact is None else exact

    def refresh(self) -> None:
        """After an update: what is computed with is the weights, rounded."""
        with torch.no_grad():
            for weight, mine in zip(self._weights, self._copies, strict=True):
                mine.copy_(weight)

    def drop(self) -> None:
        """A pass was given up: what it has of gradients counts for nothing."""
        for mine in self._copies:
            mine.grad = None

    def collect(self) -> None:
        """After a backward pass: its gradients are added to those of the weights, in fp32."""
        for weight, mine in zip(self._weights, self._copies, strict=True):
            grad: Tensor | None = mine.grad
            mine.grad = None
            if grad is None:
                continue
            if weight.grad is None:
                weight.grad = grad.to(weight.dtype)
            else:
                weight.grad.add_(grad)


def _rounded(frozen: nn.Parameter, dtype: torch.dtype) -> Tensor | None:
    """Round a weight in place; what it was, if it cannot be had back from what it is now."""
    exact = frozen.data
    frozen.data = exact.to(dtype)
    return None if torch.equal(frozen.data.float(), exact) else exact
