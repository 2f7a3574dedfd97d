"""Gradients of leaves, and their sum in the order in which one process adds them."""

import torch
from torch import Tensor

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
