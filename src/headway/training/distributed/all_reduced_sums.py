"""All-reduced sums: gradients added by the library's fastest route, in an order of its own.

The result depends, within rounding, on the number of workers.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from headway.runs.workers import Node
from headway.training.distributed.process_group import ProcessGroup
from headway.training.distributed.sums import fill, unfold


class AllReducedSums:
    """Sums that `all_reduce` makes.

    Args:
        group: that connects them.
        shapes: of the parameters, in the order of every list of gradients.
        device: that gradients are on.
    """

    def __init__(self, group: ProcessGroup, shapes: Sequence[torch.Size], device: str) -> None:
        self._group = group
        self._shapes = tuple(shapes)
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._flat = torch.empty(sum(self._sizes), dtype=torch.float32, device=device)
        self._part = torch.empty_like(self._flat)

    @property
    def num_bytes(self) -> int:
        """Nothing: each worker has its own."""
        return 0

    def write(self, sums: Mapping[Node, Sequence[Tensor | None]], num_leaves: int) -> None:
        """Take this worker's partial sums of a step."""
        del num_leaves
        self._flat.zero_()
        for gradients in sums.values():
            fill(self._part, self._sizes, gradients)
            self._flat += self._part

    def add(self, num_leaves: int, on_wait: Callable[[], None]) -> None:
        """Add up over workers; every worker gets the result."""
        del num_leaves

        self._group.run(lambda: self._group.all_reduce(self._flat), "gradients", on_wait)

    def read(self, with_gradient: Sequence[bool]) -> list[Tensor | None]:
        """The gradients of the whole step."""
        return unfold(self._flat, self._shapes, with_gradient)
