"""GGUF container: metadata and tensor table of a file, every length checked against its bytes.

The `gguf` package has a reader too. It reads past the end of a short file without an error, loops
for as long as a false length says, and takes two seconds for a vocabulary. Its tables of number
formats are used here.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from headway.base.units import size

MAGIC = b"GGUF"
VERSIONS = (2, 3)

_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = dict(
    zip(
        (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12),
        ("B", "b", "H", "h", "I", "i", "f", "?", "Q", "q", "d"),
        strict=True,
    )
)
_ALIGNMENT = "general.alignment"
_MAX_KEYS, _MAX_TENSORS, _MAX_STRINGS = 1 << 16, 1 << 18, 1 << 23
_MAX_DIMENSIONS = 4

Value = bool | int | float | str | tuple[int | float | bool, ...] | tuple[str, ...]


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor is in its file.

    Attributes:
        shape: rows first, as torch says it.
        kind: name of the number format, such as "Q4_1".
        offset: of its first byte in the file.
        num_bytes: that it has there.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """A file's metadata and tensors, by name; its weights are not read yet."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]


def is_gguf(path: Path) -> bool:
    """Whether a file is named or begins like a GGUF file."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GgufFile:
    """Read all but the weights.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not a GGUF file, or a length in it does not fit its bytes.
    """
    with mapped(path) as data:
        reader = _Reader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise ValueError("does not begin with GGUF")
        version = reader.number("I")
        if version not in VERSIONS:
            raise ValueError(
                f"version {version}; this reader knows {VERSIONS[0]} and {VERSIONS[1]}"
            )
        num_tensors, num_keys = reader.count(_MAX_TENSORS, 24), reader.count(_MAX_KEYS, 13)
        metadata = _read_metadata(reader, num_keys)
        return GgufFile(path, metadata, _read_tensors(reader, num_tensors, metadata))


@contextmanager
def mapped(path: Path) -> Generator[memoryview]:
    """A file's bytes, read from the disk as they are used."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise ValueError("an empty file")
        # Closed with its last array: to close it here would be an error if one is still there.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Reader:
    """A position in bytes; whatever is read from there must be there."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, num: int) -> bytes:
        self._check(num)
        self.at += num
        return bytes(self.data[self.at - num : self.at])

    def number(self, code: str) -> int:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return value

    def count(self, most: int, bytes_each: int) -> int:
        """A number of things that follow, each of at least so many bytes."""
        num = self.number("Q")
        if num > most:
            raise ValueError(f"{num:,} entries at byte {self.at - 8:,}; at most {most:,} are read")
        self._check(num * bytes_each)
        return num

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("I"))
        if kind not in _NUMBERS:
            raise ValueError(f"a value of the unknown type {kind} at byte {self.at:,}")
        return self.number(_NUMBERS[kind])

    def _array(self, kind: int) -> Value:
        if kind == _STRING:
            return tuple(self.text() for _ in range(self.count(_MAX_STRINGS, 8)))
        if kind not in _NUMBERS:
            raise ValueError(f"a list of the unknown type {kind} at byte {self.at:,}")
        each = struct.calcsize("<" + _NUMBERS[kind])
        num = self.count(_MAX_STRINGS, each)
        return struct.unpack(f"<{num}{_NUMBERS[kind]}", self.take(num * each))

    def _check(self, num: int) -> None:
        if num > len(self.data) - self.at:
            raise ValueError(
                f"cut short: {size(len(self.data))}, and {num:,} more bytes are needed at byte "
                f"{self.at:,}"
            )


def _read_metadata(reader: _Reader, num: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(num):
        key = reader.text()
        if key in metadata:
            raise ValueError(f"{key[:80]!r} twice in its metadata")
        metadata[key] = reader.value(reader.number("I"))
    return metadata


def _read_tensors(
    reader: _Reader, num: int, metadata: Mapping[str, Value]
) -> dict[str, GgufTensor]:
    found = [(reader.text(), *_read_place(reader)) for _ in range(num)]
    step = metadata.get(_ALIGNMENT, 32)
    if not isinstance(step, int) or step < 8 or step & (step - 1):
        raise ValueError(f"{_ALIGNMENT} {step!r}, which is not a power of two")
    begin = -(-reader.at // step) * step
    tensors: dict[str, GgufTensor] = {}
    for name, shape, number, offset in found:
        kind, num_bytes = _format_of(name, shape, number)
        if name in tensors:
            raise ValueError(f"the tensor {name[:80]!r} twice")
        if offset % step:
            raise ValueError(f"{name[:80]!r} at offset {offset:,}, not a multiple of {step}")
        end = begin + offset + num_bytes
        if end > len(reader.data):
            raise ValueError(f"cut short: {size(len(reader.data))} of at least {size(end)}")
        tensors[name] = GgufTensor(shape, kind, begin + offset, num_bytes)
    return tensors


def _read_place(reader: _Reader) -> tuple[tuple[int, ...], int, int]:
    """Shape, number of the format, and offset behind the header."""
    dimensions = reader.number("I")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    shape = tuple(reversed([reader.number("Q") for _ in range(dimensions)]))
    return shape, reader.number("I"), reader.number("Q")


def _format_of(name: str, shape: tuple[int, ...], number: int) -> tuple[str, int]:
    """The name of a number format, and how many bytes a tensor takes in it."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise ValueError(f"{name[:80]!r} in the unknown number format {number}") from None
    values, num_bytes = GGML_QUANT_SIZES[kind]
    if not all(shape) or shape[-1] % values:
        raise ValueError(f"{name[:80]!r} of shape {list(shape)} does not fill blocks of {values}")
    return kind.name, prod(shape) // values * num_bytes
