"""Safetensors file written tensor by tensor, so that no more than one has to be in memory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from torch import Tensor

_ALIGNMENT = 8  # of the data, as the format wants it
_FLOAT_BYTES = 4


class SafetensorsFile:
    """A file of fp32 tensors whose names and shapes are known before; a context manager.

    Args:
        path: of a file that is not there yet.
        shapes: of the tensors, in the order in which they will be added.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shapes.items():
            begin, end = end, end + _num_bytes(shape)
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._left = list(shapes)
        self._file = path.open("xb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def add(self, name: str, tensor: Tensor) -> None:
        """Write the next tensor."""
        assert name == self._left.pop(0), "in the order of the header"
        self._file.write(tensor.detach().cpu().float().contiguous().numpy().data)

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _num_bytes(shape: Sequence[int]) -> int:
    num = _FLOAT_BYTES
    for length in shape:
        num *= length
    return num
