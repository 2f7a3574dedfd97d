"""Shared sums: gradients of several workers, added in memory that all of them map.

Each worker writes its partial sums, then adds up its own slice of all parameters over the tree, in
the order in which one process alone would. Between the two, and before anybody reads the result,
all have to have come so far: the caller's exchange of reports sees to that.
"""

import math
import mmap
import os
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from headway.runs.workers import Node, WorkerTree, nodes_of
from headway.training.distributed.sums import fill, unfold

_FLOAT_BYTES = 4


class SharedSums:
    """The memory in which the gradients of a step are added.

    Args:
        tree: of the workers.
        rank: of this one.
        num_leaves: of a full step; a smaller step has fewer, never more.
        shapes: of the parameters, in the order of every list of gradients.
        descriptor: of the memory.

    Attributes:
        num_bytes: of the memory.
    """

    def __init__(
        self,
        tree: WorkerTree,
        rank: int,
        num_leaves: int,
        shapes: Sequence[torch.Size],
        descriptor: int,
    ) -> None:
        self._tree, self._rank = tree, rank
        self._shapes = tuple(shapes)
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._length = sum(self._sizes)
        num_slots = tree.most_nodes(num_leaves) + 1
        self.num_bytes = _FLOAT_BYTES * self._length * num_slots
        os.ftruncate(descriptor, self.num_bytes)  # all ranks make it the same length
        memory = mmap.mmap(descriptor, self.num_bytes)
        flat = torch.frombuffer(memory, dtype=torch.float32)
        *self._slots, self._result = flat.view(num_slots, self._length)

    def write(self, sums: Mapping[Node, Sequence[Tensor | None]], num_leaves: int) -> None:
        """Write this worker's partial sums of a step."""
        places = self._places(num_leaves)
        for node, gradients in sums.items():
            fill(places[node], self._sizes, gradients)

    def add(self, num_leaves: int, on_wait: Callable[[], None]) -> None:
        """Add up this worker's slice of the parameters, over the sums that all have written."""
        del on_wait  # nobody is waited for
        workers, length = self._tree.workers, self._length
        own = slice(length * self._rank // workers, length * (self._rank + 1) // workers)
        places = {node: slot[own] for node, slot in self._places(num_leaves).items()}

        def total(node: Node) -> Tensor:
            if node in places:
                return places[node]
            left, right = map(total, node.halves)
            return left.add_(right)

        (root,) = nodes_of(range(num_leaves))
        self._result[own].copy_(total(root))

    def read(self, with_gradient: Sequence[bool]) -> list[Tensor | None]:
        """The gradients of the whole step, once all have added their slices.

        Args:
            with_gradient: whether any leaf has a gradient, for each parameter.
        """
        return unfold(self._result, self._shapes, with_gradient)

    def _places(self, num_leaves: int) -> dict[Node, Tensor]:
        """The slot of each partial sum of a step, of all workers."""
        return dict(zip(self._tree.nodes(num_leaves), self._slots, strict=False))
