"""Reproducible kernels: the same bits each time, on devices that have faster ones, too."""

import os

import torch

# Buffers of a fixed size for cuBLAS, with which it is deterministic: 8 of 4,096 KiB. It reads
# this when it is first used.
_CUBLAS_VARIABLE, _CUBLAS_BUFFERS = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def set_up_kernels(threads: int, device: str, *, deterministic: bool) -> None:
    """Set how this process computes. Comes before its first operation on a device.

    On a CPU every kernel gives the same bits each time, so there is nothing to choose.

    Args:
        threads: of the CPU.
        device: that it trains on.
        deterministic: an operation that has no deterministic kernel raises RuntimeError.
    """
    torch.set_num_threads(threads)
    if deterministic and device != "cpu":
        os.environ.setdefault(_CUBLAS_VARIABLE, _CUBLAS_BUFFERS)
        torch.use_deterministic_algorithms(True)
