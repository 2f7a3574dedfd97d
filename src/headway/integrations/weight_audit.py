"""Weight audit: which trainable tensors have gradients, and which have changed, bit by bit.

A tensor's fingerprint is the sum of its bits taken as whole numbers: one pass over the weights and
no copy of them. Different fingerprints prove a change.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from headway.runs.receipt import MAX_NAMES
from headway.runs.watched.watched_receipt import SeenTensors

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightAudit:
    """The trainable tensors of a model, compared with what they were when this was made.

    Args:
        model: any module.

    Attributes:
        names: of the trainable tensors.
        is_readable: whether this process holds all of them.
    """

    def __init__(self, model: Any) -> None:
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in trainable]
        self._tensors: list[Tensor] = [tensor for _, tensor in trainable]
        self.is_readable = all(tensor.numel() for tensor in self._tensors)
        self._before = self._fingerprints() if self.is_readable else []
        self._has_gradient = [False] * len(self.names)

    def look_at_gradients(self) -> tuple[int, int]:
        """Note which tensors have a gradient now.

        Returns:
            How many have one, and of how many it is other than zero.
        """
        gradients = [_own(tensor.grad) for tensor in self._tensors]
        there = [gradient for gradient in gradients if gradient is not None]
        highest = iter(_highest(there))
        num_nonzero = 0
        for i, gradient in enumerate(gradients):
            if gradient is not None and next(highest) != 0.0:
                num_nonzero += 1
                self._has_gradient[i] = True
        return len(there), num_nonzero

    @property
    def all_had_gradients(self) -> bool:
        """Whether every tensor has had a gradient."""
        return all(self._has_gradient)

    @property
    def dead(self) -> list[str]:
        """Names of the tensors that had no gradient whenever it was looked at."""
        return [n for n, has in zip(self.names, self._has_gradient, strict=True) if not has]

    def nonfinite(self) -> list[str]:
        """Names of the tensors with values that are not finite."""
        highest = _highest([_dense(tensor) for tensor in self._tensors])
        return [n for n, one in zip(self.names, highest, strict=True) if not math.isfinite(one)]

    def result(self) -> SeenTensors | None:
        """What has changed so far; None if the tensors cannot be read."""
        if not self.is_readable:
            return None
        now = self._fingerprints()
        changed = [a != b for a, b in zip(self._before, now, strict=True)]
        unmoved = [
            name
            for name, has, moved in zip(self.names, self._has_gradient, changed, strict=True)
            if has and not moved
        ]
        return SeenTensors(
            trainable=len(self.names),
            changed=sum(changed),
            with_gradient=sum(self._has_gradient),
            unmoved=tuple(unmoved[:MAX_NAMES]),
            dead=tuple(self.dead[:MAX_NAMES]),
        )

    def _fingerprints(self) -> list[int]:
        sums = [_sum_of_bits(_dense(tensor)) for tensor in self._tensors]
        return [int(one) for one in sums]


def _own(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _dense(tensor)


def _dense(tensor: Tensor) -> Tensor:
    """The values that this process holds; to read others' would be a collective."""
    to_local = getattr(tensor, "to_local", None)  # of a tensor that is spread over processes
    local: Tensor = to_local() if to_local is not None else tensor.detach()
    return local.coalesce().values() if local.is_sparse else local


def _sum_of_bits(tensor: Tensor) -> Tensor:
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = real.contiguous().view(-1)
    return flat.view(_WHOLE_NUMBERS[flat.element_size()]).sum(dtype=torch.int64)


def _highest(tensors: Sequence[Tensor]) -> list[float]:
    """The highest magnitude in each tensor, NaN if one is there; no square can over- or underflow.

    Waits for the device once for each of them.
    """
    return [
        float(torch.linalg.vector_norm(tensor, math.inf)) if tensor.numel() else 0.0
        for tensor in tensors
    ]
