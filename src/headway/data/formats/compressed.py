"""Compressed bytes -> bytes: .gz, .zst, .bz2 and .xz, as they arrive."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from headway.base.errors import Remedy, UsageError
from headway.base.pulse import Pulse
from headway.base.units import count, size
from headway.data.formats.items import DamagedError
from headway.data.sources.source import Chunks

_OUT_BYTES = 1 << 20  # that come out at a time
_IN_BYTES = 1 << 16
_ZSTD_IN_BYTES = 512  # zstandard does not bound what comes out of one call: 17 MB of these
_ZSTD_WINDOW = 1 << 31  # what `zstd --long=31` writes
_XZ_MEMORY = 1 << 30
_BOMB_RATIO = 1000
_BOMB_BYTES = 100_000_000


class Member(Protocol):
    """One gzip member, zstd frame, or bzip2 or xz stream, being unpacked."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given to it behind its end."""
        ...

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        """What is in these bytes, piece by piece."""
        ...


def suffix_of(name: str) -> str:
    """The compression that a name ends in, such as ".gz"; "" for none."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in MEMBERS else ""


def unpacked(suffix: str, pieces: Chunks, pulse: Pulse) -> Chunks:
    """The content of a compressed file, which may have several members one after the other.

    Args:
        suffix: from `suffix_of`.
        pieces: the file as it is stored.
        pulse: beats while much comes out of little.

    Raises:
        DamagedError: it breaks off, is not what its name says, or grows out of all proportion.
        UsageError: a package is missing.
    """
    return _gathered(_unpacked(suffix, pieces, pulse))


def _unpacked(suffix: str, pieces: Chunks, pulse: Pulse) -> Chunks:
    begin = MEMBERS[suffix]
    member: Member | None = None
    num_in = num_out = num_members = 0
    for packed in _slices(pieces):
        if packed is None:
            yield None
            continue
        num_in += len(packed)
        left = packed if member else _after_padding(packed, num_members)
        while left:
            if member is None:
                member = begin()
                num_members += 1
            try:
                for out in member.unpack(left):
                    num_out += len(out)
                    _check_growth(num_in, num_out)
                    pulse.beat()
                    yield out
            except (*_ERRORS, ValueError) as error:
                what = f"is not {_NAMES[suffix]} data before byte {count(num_in)}"
                raise DamagedError(f"{what}: {error}") from error
            left = b""
            if member.eof:
                left, member = _after_padding(member.unused_data, num_members), None
    if member:
        raise DamagedError(f"breaks off at byte {count(num_in)}, inside its {_NAMES[suffix]} data")


def _slices(pieces: Chunks) -> Chunks:
    """Small pieces: what lies behind the end of a member is copied, and members may be tiny."""
    for chunk in pieces:
        if chunk is None:
            yield None
            continue
        for at in range(0, len(chunk), _IN_BYTES):
            yield chunk[at : at + _IN_BYTES]


def _gathered(pieces: Chunks) -> Chunks:
    """Larger pieces; what came before damage, or before a wait, comes before it."""
    held: list[bytes] = []
    try:
        for piece in pieces:
            if piece is not None:
                held.append(piece)
            if held and (piece is None or sum(map(len, held)) >= _OUT_BYTES):
                yield b"".join(held)
                held = []
            if piece is None:
                yield None
    except DamagedError:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def _after_padding(packed: bytes, num_members: int) -> bytes:
    """Zeros between members, and after the last one, are no data."""
    return packed.lstrip(b"\0") if num_members else packed


def _check_growth(num_in: int, num_out: int) -> None:
    if num_out > max(_BOMB_BYTES, _BOMB_RATIO * num_in):
        raise DamagedError(
            f"grows more than {count(_BOMB_RATIO)} times: {size(num_out)} from its first "
            f"{size(num_in)}"
        )


# ---- members ---------------------------------------------------------------------------------


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        while True:
            out = self._member.decompress(packed, _OUT_BYTES)
            if out:
                yield out
            packed = self._member.unconsumed_tail
            if not packed and len(out) < _OUT_BYTES:
                return


class _Stream:
    """What bzip2 and xz have in common."""

    def __init__(self, member: "bz2.BZ2Decompressor | lzma.LZMADecompressor") -> None:
        self._member = member

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        out = self._member.decompress(packed, _OUT_BYTES)
        while out:
            yield out
            if self._member.eof or self._member.needs_input:
                return
            out = self._member.decompress(b"", _OUT_BYTES)


def _bzip2() -> Member:
    return _Stream(bz2.BZ2Decompressor())


def _xz() -> Member:
    return _Stream(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))


class _Zstd:
    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise UsageError(
                "reading .zst takes a package that is not installed",
                have="no zstandard",
                need="headway[train]",
                remedies=(Remedy("pip install 'headway[train]'", "zstandard and the rest"),),
            ) from None
        self._error = zstandard.ZstdError
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._behind = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._behind

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        for at in range(0, len(packed), _ZSTD_IN_BYTES):
            try:
                out = self._frame.decompress(packed[at : at + _ZSTD_IN_BYTES])
            except self._error as error:
                raise ValueError(str(error)) from error
            if out:
                yield out
            if self._frame.eof:
                self._behind = packed[at + _ZSTD_IN_BYTES :]
                return


MEMBERS: dict[str, Callable[[], Member]] = {
    ".gz": _Gzip,
    ".bz2": _bzip2,
    ".xz": _xz,
    ".zst": _Zstd,
}
_NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError)
