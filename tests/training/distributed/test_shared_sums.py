"""Sums over workers have the bits of one process's sum, whoever computed which leaf."""

import pytest
import torch
from tests.training.distributed.sums_of_leaves import SHAPES, added, bits

from headway.runs.workers import Node, WorkerTree, nodes_of
from headway.training.distributed.shared_sums import SharedSums


@pytest.mark.parametrize("num_leaves", [1, 2, 4, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 8])
def test_the_bits_do_not_depend_on_the_number_of_workers(
    workers: int, num_leaves: int, descriptor: int
) -> None:
    tree = WorkerTree(workers, 1)
    ranks = [SharedSums(tree, rank, 8, SHAPES, descriptor) for rank in range(workers)]
    for _ in range(2):  # what a step leaves behind must not reach the next
        for rank, sums in enumerate(ranks):
            nodes = nodes_of(tree.leaves_of(rank, num_leaves))
            sums.write({node: added(node.leaves) for node in nodes}, num_leaves)
        for sums in reversed(ranks):
            sums.add(num_leaves, pytest.fail)
        alone = added(range(num_leaves))
        with_gradient = [one is not None for one in alone]
        for sums in ranks:
            assert bits(sums.read(with_gradient)) == bits(alone)


def test_what_was_read_stays_when_the_next_step_writes(descriptor: int) -> None:
    sums = SharedSums(WorkerTree(1, 1), 0, 1, SHAPES[:1], descriptor)
    sums.write({Node(0, 0): [torch.ones(3, 5)]}, 1)
    sums.add(1, pytest.fail)
    (first,) = sums.read([True])
    sums.write({Node(0, 0): [torch.zeros(3, 5)]}, 1)
    sums.add(1, pytest.fail)
    assert first is not None
    assert first.sum() == 15
