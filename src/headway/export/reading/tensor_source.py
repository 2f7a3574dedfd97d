"""Tensor source: the weights of a whole model by name, each read when it is its turn."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from headway.model.lazy_weights import StoredTensors
from headway.model.safetensors_index import stored_tensors

Shapes = Mapping[str, tuple[int, ...]]


class TensorSource(Protocol):
    """Where the tensors of a model come from."""

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor by its name, as transformers stores it."""
        ...

    @property
    def kinds(self) -> Mapping[str, str]:
        """The number format that each tensor is stored in, as safetensors files spell it."""
        ...

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, in the order of `shapes`, one at a time."""
        ...


class StoredSource:
    """The tensors in a folder's safetensors files, in the number format that they have there.

    Args:
        folder: of a whole model.
    """

    def __init__(self, folder: Path) -> None:
        self._stored = StoredTensors(folder)
        self._headers = stored_tensors(folder)

    @property
    def shapes(self) -> Shapes:
        """See `TensorSource`."""
        return {name: shape for name, (_, shape) in self._headers.items()}

    @property
    def kinds(self) -> Mapping[str, str]:
        """See `TensorSource`."""
        return {name: kind for name, (kind, _) in self._headers.items()}

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """See `TensorSource`."""
        for name in self._headers:
            yield name, self._stored[name]
