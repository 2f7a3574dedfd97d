"""Streaming decompression of .gz, .zst, .bz2 and .xz."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.pulse import Pulse
from headway.base.units import count, size
from headway.data.formats.records import DamagedError
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
    members = _Members(suffix, pulse)
    for chunk in pieces:
        yield from _joined(members.unpack(chunk))
    members.finish()


class _Members:
    """The members of one compressed file, unpacked one after the other."""

    def __init__(self, suffix: str, pulse: Pulse) -> None:
        self._suffix = suffix
        self._pulse = pulse
        self._open: Member | None = None
        self._num_members = 0
        self._num_in = 0
        self._num_out = 0

    def unpack(self, chunk: bytes) -> Chunks:
        """What is in a piece of the file.

        Raises:
            DamagedError: it is not compressed data, or grows out of all proportion.
        """
        # Small slices: what follows the end of a member is copied, and members may be tiny.
        for at in range(0, len(chunk), _IN_BYTES):
            packed = chunk[at : at + _IN_BYTES]
            self._num_in += len(packed)
            yield from self._unpack_slice(packed)

    def _unpack_slice(self, packed: bytes) -> Chunks:
        left = packed if self._open else self._without_padding(packed)
        while left:
            if self._open is None:
                self._open = MEMBERS[self._suffix]()
                self._num_members += 1
            try:
                for out in self._open.unpack(left):
                    self._num_out += len(out)
                    _check_growth(self._num_in, self._num_out)
                    self._pulse.beat()
                    yield out
            except (*_ERRORS, ValueError) as error:
                what = f"is not {_NAMES[self._suffix]} data before byte {count(self._num_in)}"
                raise DamagedError(f"{what}: {error}") from error
            left = b""
            if self._open.eof:
                left, self._open = self._without_padding(self._open.unused_data), None

    def _without_padding(self, packed: bytes) -> bytes:
        """Zeros between members, and after the last one, are not data."""
        return packed.lstrip(b"\0") if self._num_members else packed

    def finish(self) -> None:
        """Check that the file ends where a member does.

        Raises:
            DamagedError: it does not.
        """
        if self._open:
            inside = f"inside its {_NAMES[self._suffix]} data"
            raise DamagedError(f"breaks off at byte {count(self._num_in)}, {inside}")


def _joined(pieces: Chunks) -> Chunks:
    """Larger pieces, as zstandard gives many small ones; what came before damage comes first."""
    held: list[bytes] = []
    num_bytes = 0
    try:
        for piece in pieces:
            held.append(piece)
            num_bytes += len(piece)
            if num_bytes >= _OUT_BYTES:
                yield b"".join(held)
                held, num_bytes = [], 0
    except DamagedError:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


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
                "reading .zst needs a package that is not installed",
                cause=Cause.MISSING_PACKAGE,
                have="no zstandard",
                need="headway[train]",
                remedies=(
                    Remedy("pip install 'headway[train]'", "zstandard and the other packages"),
                ),
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
