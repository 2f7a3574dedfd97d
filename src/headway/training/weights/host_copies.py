"""Host copies: memory of the host for copies of tensors, and how they get there from a GPU.

A GPU copies on a stream of its own while the next step computes its gradients. Its next update
waits for the copies, in its queue: the training thread does not.
"""

import mmap
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class HostCopies(Protocol):
    """Copies of tensors, made in one go and read later."""

    def memory(self, tensor: Tensor) -> Tensor:
        """Memory for a copy of a tensor: fp32 if it has fractions. All of it is touched."""
        ...

    def begin(self, copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """Copy tensors, as they are now. What is copied must not change before `hold_back`.

        Args:
            copies: from `memory`.
            tensors: of the device.
        """
        ...

    def hold_back(self) -> None:
        """Let what the device is asked from now on come after the copies."""
        ...

    def wait(self) -> None:
        """Wait until the copies are complete; the reader calls this before it reads them."""
        ...


class ProcessorCopies:
    """Copies from memory to memory: whole when `begin` returns."""

    def memory(self, tensor: Tensor) -> Tensor:
        """See `HostCopies`."""
        return torch.empty(tensor.shape, dtype=_kept_as(tensor)).zero_()  # touched by zero_()

    def begin(self, copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """See `HostCopies`."""
        for copy, tensor in zip(copies, tensors, strict=True):
            copy.copy_(tensor)

    def hold_back(self) -> None:
        """Nothing is under way."""

    def wait(self) -> None:
        """Nothing is under way."""


class GpuCopies:
    """Copies from a GPU; not yet run on one.

    Args:
        device: of the tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._done: torch.Event | None = None
        self._sources: tuple[Tensor, ...] = ()  # kept until they are copied

    def memory(self, tensor: Tensor) -> Tensor:
        """Memory that the GPU can write to by itself, to the byte as large as the copy.

        torch's own pinned memory is rounded up to a power of two. Where the driver refuses, the
        memory stays ordinary, and copies into it are made before `begin` returns.
        """
        dtype = _kept_as(tensor)
        num_bytes = tensor.numel() * dtype.itemsize
        if not num_bytes:
            return torch.empty(tensor.shape, dtype=dtype)
        pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        made = torch.frombuffer(pages, dtype=dtype).zero_().view(tensor.shape)
        with torch.cuda.device(self._device):
            driver: Any = torch.cuda.cudart()
            driver.cudaHostRegister(made.data_ptr(), num_bytes, 0)
        return made

    def begin(self, copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """See `HostCopies`."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for copy, tensor in zip(copies, tensors, strict=True):
                copy.copy_(tensor, non_blocking=True)
        self._done = self._stream.record_event()
        self._sources = tuple(tensors)

    def hold_back(self) -> None:
        """See `HostCopies`."""
        if self._done:
            torch.cuda.current_stream(self._device).wait_event(self._done)

    def wait(self) -> None:
        """See `HostCopies`."""
        if self._done:
            self._done.synchronize()
        self._sources = ()


def copies_from(device: torch.device) -> HostCopies:
    """How tensors of a device are copied."""
    return GpuCopies(device) if device.type == "cuda" else ProcessorCopies()


def _kept_as(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.is_floating_point() else tensor.dtype
