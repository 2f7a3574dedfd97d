"""Streaming decompression of .gz, .zst, .bz2 and .xz."""

import bz2
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.pulse import Pulse
from headway.base.units import count, size
from headway.data.formats.records import DamagedError
from headway.data.sources.source import Chunks

_OUT_BYTES = 1 << 20  # decompressed at a time
_IN_BYTES = 1 << 16
_ZSTD_IN_BYTES = 512  # zstandard does not bound the output of one call: up to 17 MB from these
_ZSTD_WINDOW = 1 << 31  # as written by `zstd --long=31`
_XZ_MEMORY = 1 << 30
_BOMB_RATIO = 250  # text shrinks to a fifth, logs to a hundredth
_BOMB_BYTES = 100_000_000


class Member(Protocol):
    """A decompressor for one gzip member, zstd frame, or bzip2 or xz stream."""

    @property
    def eof(self) -> bool:
        """Whether the end of the member has been reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Input bytes after the end of the member."""
        ...

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        """Decompress these bytes, piece by piece."""
        ...


def suffix_of(name: str) -> str:
    """The compression suffix of a file name, such as ".gz"; "" if there is none."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in MEMBERS else ""


def converting(file: str, tool: str, suffix: str) -> str:
    """A command that writes a converted copy next to a local file, or of a remote file here."""
    target = Path(file).name if "://" in file else file
    return f"{piped(file, tool)} > {shlex.quote(target + suffix)}"


def piped(file: str, tool: str) -> str:
    """A command that sends the unpacked content of a file through a tool."""
    quoted, packed = shlex.quote(file), suffix_of(file)
    unpack = [_UNPACK[packed]] if packed else []
    if "://" in file:
        fetch = f"aws s3 cp {quoted} -" if file.startswith("s3:") else f"curl -sL {quoted}"
        return " | ".join([fetch, *unpack, tool])
    return f"{_UNPACK[packed]} {quoted} | {tool}" if packed else f"{tool} {quoted}"


def decompress(suffix: str, pieces: Chunks, pulse: Pulse) -> Chunks:
    """Decompress a file, which may consist of several members in a row.

    Args:
        suffix: from `suffix_of`.
        pieces: the compressed bytes.
        pulse: beats while a small input expands to a large output.

    Raises:
        DamagedError: the file is truncated, is in another format, or expands suspiciously.
        UsageError: a package is missing.
    """
    members = _Members(suffix, pulse)
    for chunk in pieces:
        yield from _joined(members.unpack(chunk))
    members.finish()


class _Members:
    """The members of one compressed file, decompressed one after the other."""

    def __init__(self, suffix: str, pulse: Pulse) -> None:
        self._suffix = suffix
        self._pulse = pulse
        self._open: Member | None = None
        self._num_members = 0
        self._num_in = 0
        self._num_out = 0

    def unpack(self, chunk: bytes) -> Chunks:
        """Decompress a piece of the file.

        Raises:
            DamagedError: it is not compressed data, or expands suspiciously.
        """
        # Small slices: the input after a member's end is copied, and members may be tiny.
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
                    check_growth(self._num_in, self._num_out)
                    self._pulse.beat()
                    yield out
            except (*_ERRORS, ValueError) as error:
                what = f"has invalid {_NAMES[self._suffix]} data before byte {count(self._num_in)}"
                raise DamagedError(f"{what}: {error}") from error
            left = b""
            if self._open.eof:
                left, self._open = self._without_padding(self._open.unused_data), None

    def _without_padding(self, packed: bytes) -> bytes:
        """The input without the zero padding that may follow a member."""
        return packed.lstrip(b"\0") if self._num_members else packed

    def finish(self) -> None:
        """Check that the file ends at the end of a member.

        Raises:
            DamagedError: it does not.
        """
        if self._open:
            inside = f"inside its {_NAMES[self._suffix]} data"
            raise DamagedError(f"is truncated at byte {count(self._num_in)}, {inside}")


def _joined(pieces: Chunks) -> Chunks:
    """Join the small pieces that zstandard yields; the pieces before damage are still yielded."""
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


def check_growth(num_in: int, num_out: int) -> None:
    """Check that stored bytes do not become suspiciously many.

    Args:
        num_in: stored bytes read so far.
        num_out: bytes of content in them.

    Raises:
        DamagedError: they do.
    """
    if num_out > max(_BOMB_BYTES, _BOMB_RATIO * num_in):
        raise DamagedError(
            f"expands more than {count(_BOMB_RATIO)} times: its first {size(num_in)} become "
            f"{size(num_out)}"
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
    """A bzip2 or xz stream."""

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
_UNPACK = {".gz": "zcat", ".zst": "zstdcat", ".bz2": "bzcat", ".xz": "xzcat"}
_NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError)
