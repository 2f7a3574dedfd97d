"""Dry run: gradients of micro-batches computed as in a step, of which nothing is left."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from headway.data.batching.batches import MicroTensors
from headway.model.forward import Forward


@contextmanager
def nothing_trained(forward: Forward) -> Generator[None]:
    """Compute as in training; afterwards, draws, mode and gradients are as if nothing had been."""
    parameters = list(forward.weights.parameters())
    devices = {p.device for p in parameters if p.is_cuda}
    was_training = forward.model.training
    forward.model.train()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        forward.model.train(was_training)
        forward.discard_gradients()
        for p in parameters:
            p.grad = None


def compute_gradients(forward: Forward, micro: MicroTensors) -> None:
    """Compute the gradients of a micro-batch, and drop those of the one before.

    Raises:
        Exception: whatever the model raised, out of memory or not.
    """
    for p in forward.weights.parameters():
        p.grad = None
    num_trained = max(1, len(micro.targets_M))
    with forward.examined(micro, num_trained):
        forward.loss(micro, num_trained).backward()
    forward.collect_gradients()
