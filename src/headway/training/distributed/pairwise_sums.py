"""Pairwise sums: gradients of several machines, added over the tree from worker to worker.

Two partial sums meet in the worker that has the left one, in the order in which one process alone
would add them: the result has the same bits for any number of workers and machines.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from headway.runs.workers import Node, WorkerTree, nodes_of
from headway.training.distributed.process_group import ProcessGroup
from headway.training.distributed.sums import fill, unfold


class PairwiseSums:
    """Sums that travel between the workers.

    Args:
        tree: of the workers.
        group: that connects them.
        shapes: of the parameters, in the order of every list of gradients.
        device: that gradients are on.
    """

    def __init__(
        self, tree: WorkerTree, group: ProcessGroup, shapes: Sequence[torch.Size], device: str
    ) -> None:
        self._tree, self._group = tree, group
        self._shapes = tuple(shapes)
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._device = device
        self._sums: dict[Node, Tensor] = {}
        self._free: list[Tensor] = []  # buffers to use again
        self._result = self._buffer()

    @property
    def num_bytes(self) -> int:
        """Nothing: each worker has its own."""
        return 0

    def write(self, sums: Mapping[Node, Sequence[Tensor | None]], num_leaves: int) -> None:
        """Take this worker's partial sums of a step."""
        del num_leaves
        self._free += self._sums.values()
        self._sums = {}
        for node, gradients in sums.items():
            self._sums[node] = self._buffer()
            fill(self._sums[node], self._sizes, gradients)

    def add(self, num_leaves: int, on_wait: Callable[[], None]) -> None:
        """Add up over workers; every worker gets the result."""
        tree = self._tree
        owner = {
            node: rank
            for rank in range(tree.workers)
            for node in nodes_of(tree.leaves_of(rank, num_leaves))
        }
        (root,) = nodes_of(range(num_leaves))

        def communicate() -> None:
            self._total(root, owner)
            if self._group.rank == 0:  # it has the first leaf, so all sums end here
                self._result.copy_(self._sums[root])
            self._group.broadcast(self._result)

        self._group.run(communicate, "gradients", on_wait)

    def read(self, with_gradient: Sequence[bool]) -> list[Tensor | None]:
        """The gradients of the whole step."""
        return unfold(self._result, self._shapes, with_gradient)

    def _total(self, node: Node, owner: Mapping[Node, int]) -> int:
        """Add up a node; returns the rank that has the sum."""
        if node in owner:
            return owner[node]
        left, right = node.halves
        to, source = self._total(left, owner), self._total(right, owner)
        if self._group.rank == source != to:
            self._group.send(self._take(right), to)
        elif self._group.rank == to:
            if source != to:
                self._sums[right] = self._buffer()
                self._group.receive(self._sums[right], source)
            added = self._sums.pop(left).add_(self._take(right))
            self._sums[node] = added
        return to

    def _take(self, node: Node) -> Tensor:
        """A sum that is not needed any more after its next use."""
        taken = self._sums.pop(node)
        self._free.append(taken)
        return taken

    def _buffer(self) -> Tensor:
        if self._free:
            return self._free.pop()
        return torch.empty(sum(self._sizes), dtype=torch.float32, device=self._device)
