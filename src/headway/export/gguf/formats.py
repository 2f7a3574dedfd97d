"""Number formats of a GGUF file: which one each tensor gets, and its values in it."""

import ctypes
import functools
import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.export.gguf.architecture import UnsupportedModelError
from headway.model.gguf.layout import TensorTarget

# llama.cpp's number of a file's format, `general.file_type`.
FILE_TYPES = {
    "f32": 0,
    "f16": 1,
    "q8_0": 7,
    "q4_k_m": 15,
    "q5_k_m": 17,
    "q6_k": 18,
    "bf16": 32,
}
_MATRIX = {
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K",
    "q4_k_m": "Q4_K",
}
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q5_1")  # made by llama.cpp's own library
_PLAIN_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_HALF_EXPONENT = np.int16(0x7C00)
_PART_VALUES = 1 << 20  # converted at a time: their bytes stay in the processor's cache
# Where rows are not whole blocks of a format, llama.cpp takes another one.
_SMALLER_BLOCKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}

Values = NDArray[np.float32]


@dataclass(frozen=True)
class TensorFormat:
    """A tensor's number format in the file.

    Attributes:
        kind: llama.cpp's name: "F16".
        num_bytes: of the tensor.
    """

    kind: str
    num_bytes: int


def format_of(
    name: str, shape: tuple[int, ...], quantize: str, num_layers: int, *, tied: bool
) -> TensorFormat:
    """The number format of a tensor, as llama.cpp's quantization chooses it.

    Args:
        name: in llama.cpp.
        shape: rows first.
        quantize: what was asked for.
        num_layers: of the model.
        tied: the embedding is the head.
    """
    kind = "F32" if len(shape) == 1 else _mixed(name, quantize, num_layers, tied=tied)
    if shape[-1] % _block(kind):
        kind = _SMALLER_BLOCKS.get(kind, "F16")
    if shape[-1] % _block(kind):
        kind = "F16"
    return TensorFormat(kind, prod(shape) // _block(kind) * _block_bytes(kind))


def _mixed(name: str, quantize: str, num_layers: int, *, tied: bool) -> str:
    """The format of a matrix: K-quants keep more of what matters more."""
    kind = _MATRIX[quantize]
    if kind not in ("Q4_K", "Q5_K"):
        return kind
    if name == ("token_embd.weight" if tied else "output.weight"):
        return "Q6_K"
    part = name.split(".")[-2]
    if part == "attn_qkv":
        return {"Q4_K": "Q5_K", "Q5_K": "Q6_K"}[kind]
    if part in ("attn_v", "ffn_down") and _keeps_more(int(name.split(".")[1]), num_layers):
        return "Q6_K"
    return kind


def _keeps_more(layer: int, num_layers: int) -> bool:
    """Whether a layer is among the first, the last, or every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def encoded(tensor: Any, target: TensorTarget, kind: str) -> Iterator[NDArray[Any]]:
    """A tensor's bytes in a number format, some rows at a time.

    Args:
        tensor: of torch, in any number format.
        target: how its rows and values are changed.
        kind: of the format.

    Raises:
        UnsupportedModelError: a value is not finite, or too large for the format.
    """
    rows = tensor.detach().reshape(-1, tensor.shape[-1])
    if tensor.dim() == 1:
        rows = rows.reshape(-1, 1)  # a row for each value, whose order may change
    order = row_order(len(rows), target.heads)
    step = max(1, _PART_VALUES // rows.shape[1])
    encode = _encoder(kind)
    for begin in range(0, len(rows), step):
        part = _part(rows, order, begin, begin + step)
        try:
            yield encode(part + target.plus if target.plus else part)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error} in {target.name}", error.need) from None


def row_order(num_rows: int, heads: int) -> NDArray[np.int64] | None:
    """Which row comes where: llama.cpp interleaves the two rotary halves of a head's rows.

    Returns:
        None where they stay.
    """
    if not heads:
        return None
    return np.arange(num_rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)


def _part(rows: Any, order: NDArray[np.int64] | None, begin: int, end: int) -> Any:
    if order is None:
        return rows[begin:end]
    import torch

    return rows[torch.from_numpy(order[begin:end])]


def _encoder(kind: str) -> Callable[[Any], NDArray[Any]]:
    """What makes a format's bytes of rows of a torch tensor."""
    match kind:
        case "F32":
            return lambda part: _finite(part.float()).numpy()
        case "F16":
            return _to_f16
        case "BF16":
            return _to_bf16
        case "Q8_0":
            return _to_q8_0
        case _:
            return functools.partial(_to_k_quant, kind)


def _finite(part: Any) -> Any:
    import torch

    if not torch.isfinite(part).all():
        raise UnsupportedModelError("a weight that is not finite", "finite weights")
    return part


def _to_f16(part: Any) -> NDArray[Any]:
    import torch

    halves = part.half()
    # Infinity and NaN alone have all bits of the exponent; `isfinite` takes twenty times as long.
    if (halves.view(torch.int16).numpy() & _HALF_EXPONENT).max(initial=0) == _HALF_EXPONENT:
        largest = float(_finite(part).abs().max())
        raise UnsupportedModelError(
            f"a weight of {largest:,.0f}, which f16 cannot hold", "--quantize bf16, or f32"
        )
    return halves.numpy()


def _to_bf16(part: Any) -> NDArray[Any]:
    import torch

    return _finite(part.bfloat16()).view(torch.int16).numpy()


def _to_q8_0(part: Any) -> NDArray[Any]:
    """Blocks of 32: a scale, and each value as a multiple of it; ties are rounded up."""
    values: Values = np.ascontiguousarray(_finite(part.float()).numpy()).reshape(-1, 32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scale = largest / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    scaled = values * inverse
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.concatenate(
        [scale.astype("<f2").view(np.int8), rounded],
        axis=1,
    )


def _to_k_quant(kind: str, part: Any) -> NDArray[Any]:
    values: Values = np.ascontiguousarray(_finite(part.float()).numpy())
    num_rows, width = values.shape
    row_bytes = width // _block(kind) * _block_bytes(kind)
    out = np.empty((num_rows, row_bytes), np.uint8)
    middle = num_rows // 2
    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(_quantize_rows, kind, values[a:b], out[a:b])
            for a, b in ((0, middle), (middle, num_rows))
            if b > a
        ]:
            done.result()
    return out


def _quantize_rows(kind: str, values: Values, out: NDArray[np.uint8]) -> None:
    """Quantize with llama.cpp's own function; other threads run meanwhile."""
    num_rows, width = values.shape
    written = llama_library().ggml_quantize_chunk(
        _number(kind), values.ctypes.data, out.ctypes.data, 0, num_rows, width, None
    )
    assert written == out.nbytes, f"{written} bytes of {kind}, {out.nbytes} expected"


@functools.cache
def llama_library() -> Any:
    """llama.cpp's library, which the package xllamacpp brings.

    Source: ggml.h, `ggml_quantize_chunk`.
    """
    module = importlib.import_module("xllamacpp.xllamacpp")
    library = ctypes.CDLL(str(module.__file__))
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    return library


def _number(kind: str) -> Any:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType[kind]


def _block(kind: str) -> int:
    """Values that a format stores together."""
    return _sizes(kind)[0]


def _block_bytes(kind: str) -> int:
    return _sizes(kind)[1]


def _sizes(kind: str) -> tuple[int, int]:
    if kind in _PLAIN_BYTES:
        return 1, _PLAIN_BYTES[kind]
    from gguf.constants import GGML_QUANT_SIZES

    return GGML_QUANT_SIZES[_number(kind)]
