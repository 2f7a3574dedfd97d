"""GGUF weights: a file's tensors as one safetensors file, a part of a tensor at a time.

Written here rather than by the safetensors library, which wants all tensors in memory at once.

Source: https://github.com/huggingface/safetensors, "Format"
"""

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.model.gguf.architecture import UnsupportedGgufError
from headway.model.gguf.container import GgufFile, GgufTensor, mapped
from headway.model.gguf.layout import TensorTarget

# Formats whose bytes are those of safetensors; the others become fp32.
_SAME = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
_VALUE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_PART_VALUES = 1 << 21


def write_weights(
    file: GgufFile,
    targets: Mapping[str, TensorTarget],
    path: Path,
    progress: Callable[[int], None],
) -> None:
    """Write the weights under their names in transformers.

    Args:
        file: with the tensors.
        targets: what becomes of each.
        path: of the safetensors file.
        progress: called with the bytes written so far.

    Raises:
        UnsupportedGgufError: a number format cannot be read.
        OSError: the disk.
    """
    check_formats(file, targets)
    ordered = sorted(targets.items(), key=lambda item: item[1].name)
    done = 0
    with mapped(file.path) as data, path.open("wb") as out:
        out.write(_header(file, ordered))
        for name, target in ordered:
            tensor = file.tensors[name]
            for part in _parts(data, tensor, target.heads):
                out.write(part.data)
                done += part.nbytes
                progress(done)


def check_formats(file: GgufFile, names: Mapping[str, TensorTarget]) -> None:
    """Check that every number format can be read.

    Raises:
        UnsupportedGgufError: one cannot.
    """
    for kind in sorted({file.tensors[name].kind for name in names}):
        if not _can_read(kind):
            raise UnsupportedGgufError(
                f"weights in the number format {kind}", "another format, such as F16 or Q8_0"
            )


def stored_bytes(file: GgufFile, targets: Mapping[str, TensorTarget]) -> int:
    """Bytes of the weights as they will be written."""
    return sum(_num_bytes(file.tensors[name]) for name in targets)


def read_values(file: GgufFile, name: str) -> list[float]:
    """A small tensor's values.

    Raises:
        UnsupportedGgufError: it is not in fp32.
    """
    tensor = file.tensors[name]
    if tensor.kind != "F32":
        raise UnsupportedGgufError(f"{name} in the number format {tensor.kind}", "F32")
    with mapped(file.path) as data:
        raw = bytes(data[tensor.offset : tensor.offset + tensor.num_bytes])
    return np.frombuffer(raw, np.float32).tolist()


def _header(file: GgufFile, ordered: list[tuple[str, TensorTarget]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, target in ordered:
        tensor = file.tensors[name]
        end = begin + _num_bytes(tensor)
        kind = _SAME.get(tensor.kind, "F32")
        entries[target.name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _num_bytes(tensor: GgufTensor) -> int:
    return prod(tensor.shape) * _VALUE_BYTES[_SAME.get(tensor.kind, "F32")]


def _parts(data: memoryview, tensor: GgufTensor, heads: int) -> Iterator[NDArray[Any]]:
    """A tensor's values, some rows at a time."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    flat = np.frombuffer(data, np.uint8, tensor.num_bytes, tensor.offset)
    is_bias = tensor.kind in _SAME and len(tensor.shape) == 1
    num_rows = prod(tensor.shape if is_bias else tensor.shape[:-1])
    rows = flat.reshape(num_rows, -1)
    order = _row_order(num_rows, heads)
    step = max(1, _PART_VALUES * num_rows // prod(tensor.shape))
    for begin in range(0, num_rows, step):
        part = rows[order[begin : begin + step]]
        if tensor.kind not in _SAME:
            part = dequantize(part, GGMLQuantizationType[tensor.kind]).astype("<f4", copy=False)
        yield np.ascontiguousarray(part)


def _row_order(num_rows: int, heads: int) -> NDArray[np.int64]:
    """Which row comes where: llama.cpp interleaves the two rotary halves of a head's rows.

    The inverse of `permute` in its convert_hf_to_gguf.py.
    """
    rows = np.arange(num_rows)
    return rows.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1) if heads else rows


def _can_read(kind: str) -> bool:
    """Whether values in a number format can be read: `gguf` knows more formats than it decodes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if kind in _SAME:
        return True
    try:
        _, num_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        dequantize(np.zeros((1, num_bytes), np.uint8), GGMLQuantizationType[kind])
    except NotImplementedError:
        return False
    return True
