"""Sums: how the gradients of several workers are added."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from headway.model.kernels.tensor_lists import converted, copy_to
from headway.runs.workers import Node

# Adding it changes no number, not even the sign of a zero.
NO_GRADIENT = -0.0


class Sums(Protocol):
    """The gradients of a step, added over all workers.

    A step calls `write`, `add` and `read` once each, in every worker. `add` is called when all have
    written, and `read` when all have added: the caller's exchange of reports sees to that.
    """

    @property
    def num_bytes(self) -> int:
        """Memory that all workers of this machine share."""
        ...

    def write(self, sums: Mapping[Node, Sequence[Tensor | None]], num_leaves: int) -> None:
        """Take this worker's partial sums of a step.

        Args:
            sums: None where no leaf of a node has a gradient of a parameter.
            num_leaves: of the step, of all workers.
        """
        ...

    def add(self, num_leaves: int, on_wait: Callable[[], None]) -> None:
        """Add up over workers.

        Args:
            num_leaves: of the step, of all workers.
            on_wait: called while others are waited for; may end the wait with an exception.

        Raises:
            MachineError: a worker is gone.
        """
        ...

    def read(self, with_gradient: Sequence[bool]) -> list[Tensor | None]:
        """The gradients of the whole step.

        Args:
            with_gradient: whether any leaf has a gradient, for each parameter.
        """
        ...


def fill(flat: Tensor, sizes: Sequence[int], gradients: Sequence[Tensor | None]) -> None:
    """Write gradients one after the other.

    Args:
        flat: gets them.
        sizes: of the parameters.
        gradients: of each.
    """
    present: list[tuple[Tensor, Tensor]] = []
    for part, gradient in zip(flat.split(list(sizes)), gradients, strict=True):
        if gradient is None:
            part.fill_(NO_GRADIENT)
        else:
            present.append((part, gradient.reshape(-1)))
    copy_to([part for part, _ in present], [gradient for _, gradient in present])


def unfold(
    flat: Tensor, shapes: Sequence[Sequence[int]], with_gradient: Sequence[bool]
) -> list[Tensor | None]:
    """Copies of the gradients that stand one after the other; None where there is none."""
    parts = flat.split([math.prod(shape) for shape in shapes])
    views = [part.view(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]
    wanted = zip(views, with_gradient, strict=True)
    copies = iter(converted([view for view, has_gradient in wanted if has_gradient], flat.dtype))
    return [next(copies) if has_gradient else None for has_gradient in with_gradient]
