"""What a folder's weight files say of themselves, checked against the files before any is loaded.

Weights come from anywhere. So only safetensors are read, a header is believed only as far as it
fits its file, an index may name only files beside it, and nothing is ever unpickled.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import Remedy, UsageError

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"

# A safetensors header of a real model is some megabytes; a larger one is a hostile file.
_MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 64  # as in torch
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BF16": 16,
    "F16": 16,
    "I16": 16,
    "U16": 16,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

Tensors = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class _Stored:
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class _Index:
    weight_map: dict[str, str]


def read_header(path: Path) -> Tensors:
    """Name -> (dtype, shape) of every tensor in a safetensors file, by its header alone.

    Reads no more than the header, whatever length the file claims for it.

    Raises:
        ValueError: the header does not fit the file: its length, a type, a shape, an offset.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else total
        if length > min(total - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"{path.name}: the header is longer than the file")
        try:
            entries = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
            entries.pop("__metadata__", None)
            tensors = {n: msgspec.json.decode(raw, type=_Stored) for n, raw in entries.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise ValueError(f"{path.name}: the header is not one of safetensors") from None
    _check_layout(path.name, tensors, total - 8 - length)
    return {name: (one.dtype, one.shape) for name, one in tensors.items()}


def _check_layout(file: str, tensors: Mapping[str, _Stored], num_bytes: int) -> None:
    """Each tensor has the bytes that its shape takes, and all follow each other without a gap."""
    at = 0
    for name, one in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = one.data_offsets
        if one.dtype not in _BITS:
            raise ValueError(f"{file}: {name[:80]} has the unknown type {one.dtype[:20]}")
        if begin != at or end < begin or end > num_bytes:
            raise ValueError(f"{file}: {name[:80]} is at bytes {begin} to {end}, not from {at} on")
        if _num_bits(one) != 8 * (end - begin):
            raise ValueError(f"{file}: {name[:80]} has {end - begin} bytes, its shape takes others")
        at = end
    if at != num_bytes:
        raise ValueError(f"{file}: the header speaks of {at} bytes, the file has {num_bytes}")


def _num_bits(one: _Stored) -> int:
    """Bits that the shape takes; -1 where it is none."""
    if len(one.shape) > _MAX_DIMENSIONS or min(one.shape, default=0) < 0:
        return -1
    bits = _BITS[one.dtype]
    for size in one.shape:
        bits *= size
    return bits


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, or adapters'; what else lies there is not loaded.

    Raises:
        ValueError: the index cannot be read, or names something that is no file beside it.
    """
    if (folder / WHOLE).is_file() or not (folder / INDEX).is_file():
        return [folder / name for name in (ADAPTER, WHOLE) if (folder / name).is_file()]
    adapter = [folder / ADAPTER] if (folder / ADAPTER).is_file() else []
    shards = sorted({*_weight_map(folder).values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{INDEX}: names {name[:80]!r}, which is no safetensors file beside it"
            )
        if not (folder / name).is_file():
            raise ValueError(f"{INDEX}: names {name}, which is not there")
    return adapter + [folder / name for name in shards]


def _weight_map(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{INDEX}: not an index of safetensors") from None


def stored_tensors(folder: Path) -> Tensors:
    """Name -> (dtype, shape) of every weight in a folder's files, headers alone.

    Raises:
        ValueError: a header does not fit its file, or an index its folder.
    """
    tensors: Tensors = {}
    for path in weight_files(folder):
        tensors |= read_header(path)
    return tensors


def pickled(folder: Path) -> str:
    """A file in the folder that could run code when it is read; "" where there is none."""
    return next((path.name for kind in _PICKLES for path in sorted(folder.glob(kind))), "")


def check_file(path: Path) -> None:
    """Look at a safetensors file before a library maps it.

    Raises:
        UsageError: its header does not fit its bytes, or it is not there.
    """
    try:
        read_header(path)
    except (OSError, ValueError) as error:
        raise _untrusted(path, str(error)) from error


def check_folder(folder: Path) -> None:
    """Look at all weights of a folder before a library loads them.

    Raises:
        UsageError: there are none, they are pickled, or a header does not fit its file.
    """
    try:
        tensors = stored_tensors(folder)
    except ValueError as error:
        raise _untrusted(folder, str(error)) from error
    if not tensors:
        raise no_weights(folder)


def no_weights(folder: Path) -> UsageError:
    """There is nothing in the folder that may be loaded."""
    name = pickled(folder)
    if not name:
        return UsageError(
            f"{folder} is not a model folder",
            have="no *.safetensors",
            need="config.json, *.safetensors and tokenizer.json, as save_pretrained writes them",
            remedies=(Remedy("--preset tiny", "a model from nothing"),),
        )
    convert = (
        "from transformers import AutoModelForCausalLM as M; "
        f"M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )
    return UsageError(
        f"{folder} has pickled weights, which are not read",
        have=f"{name}, which can run code when it is read, and no *.safetensors",
        need="config.json, *.safetensors and tokenizer.json, as save_pretrained writes them",
        remedies=(Remedy(f'python -c "{convert}"', "if you trust where they come from"),),
    )


def _untrusted(path: Path, have: str) -> UsageError:
    return UsageError(
        f"the weights in {path} are cut or altered",
        have=have,
        need="safetensors whose header fits their bytes",
        remedies=(Remedy(f"ls -l {path}", "what is there; copy it again from where it came"),),
    )
