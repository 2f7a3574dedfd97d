"""GGUF writer: metadata, then the weights, a part of a tensor at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.formats import TensorFormat, encoded
from headway.model.gguf.layout import TensorTarget


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the file.

    Attributes:
        name: in llama.cpp.
        target: its name in transformers, and how its values are changed.
        format: of its numbers.
    """

    name: str
    target: TensorTarget
    format: TensorFormat


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    extra: Mapping[str, Sequence[float]],
    planned: Sequence[PlannedTensor],
    tensors: Iterable[tuple[str, Any]],
    progress: Callable[[int], None],
) -> None:
    """Write a file.

    Args:
        path: of the file.
        architecture: of llama.cpp.
        metadata: keys and values.
        extra: small tensors in fp32 that are not among the weights.
        planned: the weights, in the order of `tensors`.
        tensors: names in transformers with torch tensors; others than the planned are left out.
        progress: called with the bytes of weights written so far.

    Raises:
        UnsupportedModelError: a weight is not finite, or too large for its number format.
        OSError: the disk.
    """
    from gguf import GGUFWriter
    from gguf.constants import GGMLQuantizationType

    writer = GGUFWriter(str(path), architecture)
    for key, value in metadata.items():
        _add(writer, key, value)
    for name, values in extra.items():
        writer.add_tensor_info(name, (len(values),), np.dtype(np.float32), 4 * len(values))
    for one in planned:
        writer.add_tensor_info(
            one.name,
            one.target.shape,
            np.dtype(np.float32),  # the shape is in values, not in bytes of this format
            one.format.num_bytes,
            raw_dtype=GGMLQuantizationType[one.format.kind],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    file = writer.fout[0]
    try:
        writer.write_padding(file, file.tell())
        for values in extra.values():
            file.write(np.asarray(values, "<f4").tobytes())
            writer.write_padding(file, 4 * len(values))
        _write_weights(writer, file, planned, tensors, progress)
    finally:
        file.close()


def _write_weights(
    writer: Any,
    file: Any,
    planned: Sequence[PlannedTensor],
    tensors: Iterable[tuple[str, Any]],
    progress: Callable[[int], None],
) -> None:
    done, waiting = 0, iter(planned)
    expected = next(waiting, None)
    for name, tensor in tensors:
        if expected is None or name != expected.target.name:
            continue
        if tuple(tensor.shape) != expected.target.shape:
            raise UnsupportedModelError(
                f"{name} of shape {list(tensor.shape)}", f"{list(expected.target.shape)}"
            )
        begin = done
        for part in encoded(tensor, expected.target, expected.format.kind):
            file.write(part.data)
            done += part.nbytes
            progress(done)
        assert done - begin == expected.format.num_bytes
        writer.write_padding(file, expected.format.num_bytes)
        expected = next(waiting, None)
    assert expected is None, f"{expected} was not among the tensors"


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a value in the type that llama.cpp reads it in."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, cast("Sequence[Any]", value))
