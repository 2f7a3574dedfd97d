"""Safetensors file written tensor by tensor, so that only one has to be in memory."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from headway.model.lazy_weights import TYPES

_ALIGNMENT = 8  # of the data, as the format wants it


class SafetensorsFile:
    """A file of tensors whose names and shapes are known before; a context manager.

    Args:
        path: of a file that is not there yet.
        shapes: of the tensors, in the order in which they will be added.
        kinds: number formats by name, as the format spells them, where they are not fp32.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, Sequence[int]],
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        self._kinds = {name: (kinds or {}).get(name, "F32") for name in shapes}
        for name, shape in shapes.items():
            kind = self._kinds[name]
            begin, end = end, end + num_bytes(shape, kind)
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._left = list(shapes)
        self._file = path.open("xb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def add(self, name: str, tensor: Tensor) -> None:
        """Write the next tensor."""
        assert name == self._left.pop(0), "in the order of the header"
        plain = tensor.detach().cpu().to(TYPES[self._kinds[name]]).contiguous()
        if plain.numel():  # numpy has no bf16, but bytes
            self._file.write(plain.reshape(-1).view(torch.uint8).numpy().data)

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def num_bytes(shape: Sequence[int], kind: str = "F32") -> int:
    """Bytes of a tensor in a number format."""
    return prod(shape) * TYPES[kind].itemsize
