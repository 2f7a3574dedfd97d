"""Sums over workers have the bits of one process's sum, whoever computed which leaf."""

import pytest
import torch
from torch import Tensor

from headway.runs.workers import Node, WorkerTree, nodes_of
from headway.training.distributed.shared_sums import SharedSums
from headway.training.step import merge

SHAPES = [torch.Size(shape) for shape in ((3, 5), (), (7,), (2, 2))]
Gradients = list[Tensor | None]


def leaf(number: int) -> Gradients:
    """A leaf's gradients: numbers of very different sizes, and parameters without any."""
    torch.manual_seed(number)
    gradients: Gradients = [torch.randn(shape) * 10.0 ** (number % 5) for shape in SHAPES]
    if number % 3 == 1:
        gradients[1] = None
    if number % 2:
        gradients[3] = torch.full((2, 2), -0.0)
    gradients[2] = None if number else gradients[2]
    return gradients


def added(leaves: range) -> Gradients:
    tree: list[tuple[int, Gradients]] = []
    for number in leaves:
        merge(tree, leaf(number))
    ((_, gradients),) = tree
    return gradients


def bits(gradients: Gradients) -> list[bytes | None]:
    return [None if one is None else one.numpy().tobytes() for one in gradients]


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
            sums.add_slice(num_leaves)
        alone = added(range(num_leaves))
        with_gradient = [one is not None for one in alone]
        for sums in ranks:
            assert bits(sums.read(with_gradient)) == bits(alone)


def test_what_was_read_stays_when_the_next_step_writes(descriptor: int) -> None:
    sums = SharedSums(WorkerTree(1, 1), 0, 1, SHAPES[:1], descriptor)
    sums.write({Node(0, 0): [torch.ones(3, 5)]}, 1)
    sums.add_slice(1)
    (first,) = sums.read([True])
    sums.write({Node(0, 0): [torch.zeros(3, 5)]}, 1)
    sums.add_slice(1)
    assert first is not None
    assert first.sum() == 15
