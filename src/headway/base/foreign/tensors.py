"""Tensors of saved models, read by hand: safetensors files and the archives of torch.save.

Nothing is loaded or unpickled. A safetensors header names its tensors; an archive of `torch.save`
is a zip whose entries `data/N` are the bytes of tensors; its pickle, which has the names, stays
shut.
"""

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from headway.base.files import regular_file

_MAX_HEADER_BYTES = 16 << 20  # of the largest models: 10
_MAX_TENSORS = 200_000
_PIECE_BYTES = 1 << 20
_GLANCE_BYTES = 64 << 10  # of each tensor, before any is read whole
STORAGE = "data/"  # begins the names of tensors in an archive, which are numbers
_STORAGE = re.compile(r"[^/]+/data/(\d+)")


@dataclass(frozen=True)
class TensorBytes:
    """Where the bytes of a tensor are.

    Attributes:
        path: of the file.
        begin: of its first byte in the file.
        bytes: how many.
        dtype: as safetensors spells it, "" where it is not known.
        shape: () where it is not known.
    """

    path: Path
    begin: int
    bytes: int
    dtype: str = ""
    shape: tuple[int, ...] = ()


Tensors = dict[str, TensorBytes]


def read_tensors(path: Path) -> Tensors:
    """The tensors of a file; none if it is of a kind that keeps them in a pickle alone.

    Raises:
        OSError: it is a link or cannot be read.
        ValueError: what it says about itself is false: it is damaged, or not written to its end.
    """
    regular_file(path)
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    return _of_archive(path)


def _of_safetensors(path: Path) -> Tensors:
    with path.open("rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if num_bytes < 8 or not 2 <= length <= min(_MAX_HEADER_BYTES, num_bytes - 8):
            raise ValueError("its header is longer than the file")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise ValueError("its header cannot be read") from None
    if not isinstance(header, dict) or len(cast("dict[str, object]", header)) > _MAX_TENSORS:
        raise ValueError("its header cannot be read")
    begin = 8 + length
    tensors: Tensors = {}
    for name, entry in cast("dict[str, object]", header).items():
        if name != "__metadata__":
            tensors[name] = _described(path, entry, begin, num_bytes)
    if begin + sum(tensor.bytes for tensor in tensors.values()) != num_bytes:
        raise ValueError("its tensors and its length do not match")
    return tensors


def _described(path: Path, entry: object, begin: int, num_bytes: int) -> TensorBytes:
    """A tensor from its entry in a header.

    Raises:
        ValueError: the entry is malformed, or leads out of the file.
    """
    match entry:
        case {"dtype": str(dtype), "data_offsets": [int(first), int(end)]}:
            if 0 <= first <= end <= num_bytes - begin:
                return TensorBytes(path, begin + first, end - first, dtype, _shape(entry))
        case _:
            pass
    raise ValueError("an entry in its header points outside the file")


def _shape(entry: object) -> tuple[int, ...]:
    """The shape in an entry; () if it has none that makes sense."""
    match entry:
        case {"shape": [*lengths]} if all(type(one) is int and one >= 0 for one in lengths):
            return tuple(cast("list[int]", lengths))
        case _:
            return ()


def _of_archive(path: Path) -> Tensors:
    """The tensors of an archive of `torch.save`; none for older files and other pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_TENSORS:
                raise ValueError("it has too many entries")
            with path.open("rb") as file:
                return {
                    f"{STORAGE}{found[1]}": TensorBytes(path, _begin(file, one), one.file_size)
                    for one in entries
                    if (found := _STORAGE.fullmatch(one.filename))
                    and one.compress_type == zipfile.ZIP_STORED
                    and one.file_size == one.compress_size
                }
    except zipfile.BadZipFile:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                raise ValueError("it was not written completely") from None
        return {}


def _begin(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the content of an entry begins: behind its local header of two variable parts."""
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ValueError("one of its entries is not where it should be")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return entry.header_offset + 30 + name + extra


@dataclass(frozen=True)
class Comparison:
    """Two sets of tensors, compared byte by byte.

    Attributes:
        num_tensors: that both have, of one length and type.
        differs: whether any of them differs; None if there was too much to read.
    """

    num_tensors: int
    differs: bool | None

    @property
    def is_equal(self) -> bool:
        """Whether they are the same for certain."""
        return self.num_tensors > 0 and self.differs is False


def compare(first: Tensors, second: Tensors, max_bytes: int) -> Comparison:
    """Compare the tensors that two models have in common; the first that differs decides.

    The beginnings of all are compared before any is read whole: training moves most of them.

    Args:
        first: by name.
        second: by name.
        max_bytes: to read of each.

    Raises:
        OSError: a file cannot be read.
    """
    pairs = [
        (one, other)
        for name, one in first.items()
        if (other := second.get(name)) and (one.bytes, one.dtype) == (other.bytes, other.dtype)
    ]
    pairs = [pair for pair in pairs if pair[0].bytes]
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}
        for path in {tensor.path for pair in pairs for tensor in pair}:
            files[path] = stack.enter_context(regular_file(path).open("rb"))
        left = max_bytes
        for limit in (_GLANCE_BYTES, max_bytes):
            for one, other in pairs:
                length = min(one.bytes, limit)
                if length > left:
                    return Comparison(len(pairs), None)
                left -= length
                here = pieces(files[one.path], one, length)
                there = pieces(files[other.path], other, length)
                if any(a != b for a, b in zip(here, there, strict=True)):
                    return Comparison(len(pairs), differs=True)
    return Comparison(len(pairs), differs=False)


def pieces(file: BinaryIO, tensor: TensorBytes, length: int) -> Iterator[bytes]:
    """The first bytes of a tensor, in pieces that fit in memory."""
    for at in range(0, length, _PIECE_BYTES):
        yield os.pread(file.fileno(), min(_PIECE_BYTES, length - at), tensor.begin + at)


def is_zero(tensor: TensorBytes, max_bytes: int) -> bool:
    """Whether a tensor holds nothing but zeros, of either sign; False if it is too long to say.

    Raises:
        OSError: the file cannot be read.
    """
    if tensor.bytes > max_bytes:
        return False
    with regular_file(tensor.path).open("rb") as file:
        found = pieces(file, tensor, tensor.bytes)
        return all(_is_zero(piece, tensor.dtype) for piece in found)


def _is_zero(piece: bytes, dtype: str) -> bool:
    if not piece.strip(b"\0"):
        return True
    if dtype not in _NAN_PATTERNS or piece.strip(b"\0\x80"):
        return False
    width = _NAN_PATTERNS[dtype].width  # the sign is in the last byte of a number
    return not any(piece[at::width].strip(b"\0") for at in range(width - 1))


def has_nan(tensor: TensorBytes, max_bytes: int) -> bool:
    """Whether the beginning of a tensor of floating-point numbers holds a NaN.

    Raises:
        OSError: the file cannot be read.
    """
    return _holds_beyond(tensor, max_bytes, infinite=False)


def is_finite(tensor: TensorBytes) -> bool:
    """Whether a tensor holds neither NaN nor infinity; True for anything but floating-point.

    Raises:
        OSError: the file cannot be read.
    """
    return not _holds_beyond(tensor, tensor.bytes, infinite=True)


def _holds_beyond(tensor: TensorBytes, max_bytes: int, *, infinite: bool) -> bool:
    if tensor.dtype not in _NAN_PATTERNS:
        return False
    width = _NAN_PATTERNS[tensor.dtype].width
    length = min(tensor.bytes, max_bytes) // width * width
    with regular_file(tensor.path).open("rb") as file:
        found = pieces(file, tensor, length)
        return any(_piece_holds(piece, tensor.dtype, infinite=infinite) for piece in found)


@dataclass(frozen=True)
class _NanPattern:
    """How a type spells NaN: all bits of the exponent, and not only those.

    Attributes:
        format: of `memoryview.cast`.
        width: bytes.
        infinity: the number of the bits of infinity.
        magnitude: mask of all bits but the sign.
    """

    format: Literal["H", "I", "Q"]
    width: int
    infinity: int
    magnitude: int


_NAN_PATTERNS = {
    "F64": _NanPattern("Q", 8, 0x7FF0 << 48, (1 << 63) - 1),
    "F32": _NanPattern("I", 4, 0x7F80 << 16, (1 << 31) - 1),
    "BF16": _NanPattern("H", 2, 0x7F80, 0x7FFF),
    "F16": _NanPattern("H", 2, 0x7C00, 0x7FFF),
}


def _piece_holds(piece: bytes, dtype: str, *, infinite: bool) -> bool:
    """Whether a piece has a NaN, or if asked for an infinity."""
    pattern = _NAN_PATTERNS[dtype]
    top = piece[pattern.width - 1 :: pattern.width]  # sign and exponent; little-endian
    full = pattern.infinity >> (8 * (pattern.width - 1))
    # Nearly every piece ends here, at the speed of C: no number is anywhere near infinity.
    if not any(top.count(sign | rest) for sign in (0, 0x80) for rest in range(full, 0x80)):
        return False
    numbers = memoryview(piece[: len(piece) // pattern.width * pattern.width]).cast(pattern.format)
    least = pattern.infinity if infinite else pattern.infinity + 1
    return any((number & pattern.magnitude) >= least for number in numbers)
