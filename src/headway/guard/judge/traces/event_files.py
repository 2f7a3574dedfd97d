"""Event files of TensorBoard: their scalars, read without its packages.

A file is a sequence of records (length, checksum, content, checksum); a content is a protocol
buffer `Event {2: step, 5: Summary {1: Value {1: tag, 2: simple_value, 8: tensor}}}`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headway.base.files import regular_file

NAME = "tfevents"  # part of the name of every such file
_MAX_BYTES = 256 << 20  # of a file; images and histograms are skipped, but have to be passed
_MAX_RECORD_BYTES = 64 << 10  # of one that can be a scalar
_MAX_SCALARS = 200_000
_FLOAT = 1  # DataType of a tensor
_DOUBLE = 2


@dataclass(frozen=True)
class Scalar:
    """One number, as it was logged."""

    tag: str
    step: int
    value: float


def read_scalars(path: Path) -> tuple[Scalar, ...]:
    """The scalars of an event file, in order; a record that is torn ends it.

    Raises:
        OSError: the file is a link or cannot be read.
    """
    scalars: list[Scalar] = []
    with regular_file(path).open("rb") as file:
        for content in _records(file):
            scalars += _scalars(content)
            if len(scalars) >= _MAX_SCALARS:
                break
    return tuple(scalars)


def _records(file: BinaryIO) -> Iterator[bytes]:
    while file.tell() < _MAX_BYTES:
        header = file.read(12)
        if len(header) < 12:
            return
        length = int.from_bytes(header[:8], "little")
        if length > _MAX_RECORD_BYTES:
            if length > _MAX_BYTES:
                return
            file.seek(length + 4, 1)
            continue
        content = file.read(length + 4)
        if len(content) < length + 4:
            return
        yield content[:length]


def _scalars(event: bytes) -> Iterator[Scalar]:
    """The scalars of an event; none of one that is not understood."""
    step = 0
    summaries: list[bytes] = []
    try:
        for number, value in _fields(event):
            if number == 2 and isinstance(value, int):
                step = value
            elif number == 5 and isinstance(value, bytes):
                summaries.append(value)
        for summary in summaries:
            for number, value in _fields(summary):
                if number == 1 and isinstance(value, bytes) and (found := _scalar(value, step)):
                    yield found
    except (ValueError, struct.error):
        return


def _scalar(message: bytes, step: int) -> Scalar | None:
    tag, number = "", None
    for field, value in _fields(message):
        if field == 1 and isinstance(value, bytes):
            tag = value.decode(errors="replace")
        elif field == 2 and isinstance(value, float):
            number = value
        elif field == 8 and isinstance(value, bytes):
            number = _of_tensor(value)
    return Scalar(tag, step, number) if tag and number is not None else None


def _of_tensor(message: bytes) -> float | None:
    """The number in a TensorProto that holds one: {1: type, 4: bytes, 5: floats, 6: doubles}."""
    kind = 0
    for field, value in _fields(message):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field in (4, 5, 6) and isinstance(value, bytes):
            if kind == _FLOAT and len(value) == 4:
                return struct.unpack("<f", value)[0]
            if kind == _DOUBLE and len(value) == 8:
                return struct.unpack("<d", value)[0]
        elif field in (5, 6) and isinstance(value, float):
            return value
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol buffer, by number.

    Raises:
        ValueError: it is not one.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
        elif wire == 1:
            yield number, struct.unpack_from("<d", message, at)[0]
            at += 8
        elif wire == 5:
            yield number, struct.unpack_from("<f", message, at)[0]
            at += 4
        elif wire == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field extends beyond its message")
            yield number, message[at : at + length]
            at += length
        else:
            raise ValueError("not a protocol buffer")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("not a number")
