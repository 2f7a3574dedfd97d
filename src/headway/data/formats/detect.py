"""Format detection: the reader of each source, by name or by content.

A format is one function and its line in `READERS`; the formats of a row are in `row_formats.py`.
"""

import contextlib
import functools
import io
import itertools
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec

from headway.base.errors import Cause, DataRefused, Remedy, UsageError
from headway.base.pulse import Pulse
from headway.base.units import size
from headway.data.formats.compressed import suffix_of, unpacked
from headway.data.formats.json import read_json, read_jsonl, record_of, values
from headway.data.formats.lines import of_span, whole_lines, without_bom
from headway.data.formats.records import DamagedError, Item, Record, RejectReason, Skipped, unusable
from headway.data.formats.tables import is_table, read_csv, read_parquet, record_of_row
from headway.data.formats.text import is_binary, read_parts, read_text
from headway.data.sources import hub_dataset as hub
from headway.data.sources.find import chunks, open_seekable, unreadable
from headway.data.sources.source import Chunks, Source, Span

Reader = Callable[[Source, Chunks], Iterator[Item]]
OnBytes = Callable[[bytes], None]

_HEAD_BYTES = 1 << 16
_BLANK = b"\xef\xbb\xbf \t\r\n"


def read(
    source: Source,
    on_bytes: OnBytes,
    pulse: Pulse,
    *,
    span: Span | None = None,
    skip_corrupt: bool = False,
) -> Iterator[Item]:
    """The records of one source, in order, as they arrive; the same ones every time.

    Args:
        source: from `find`.
        on_bytes: given every piece of the content as it is stored, once, as it is read.
        pulse: every wait for a stream is entered here by name.
        span: only the lines that begin in it; lines are counted from its first. For a source that
            `can_split` says can be.
        skip_corrupt: what follows the damage in a file is passed over. The rows before it stay:
            they were read whole.

    Raises:
        UsageError: a named file cannot be opened or read, or a package is missing.
        DataRefused: a file is damaged.
        ComeBack: the file changed while it was being read.
    """
    counted, num_items = _Counted(on_bytes), 0
    try:
        items = _of_span(source, counted, span) if span else _of_file(source, counted, pulse)
        for item in items:
            num_items += 1
            yield item
        if not num_items and span is None:
            reason = RejectReason.BLANK if counted.num_bytes else RejectReason.EMPTY
            yield unusable(source, reason, size(counted.num_bytes))
    except DamagedError as damage:
        if not skip_corrupt:
            raise _damaged(source, damage) from damage
        yield Skipped(source.name, RejectReason.DAMAGED, f"{damage}; {num_items} rows before that")
    except OSError as error:
        if not source.found:
            raise unreadable(source.name, error) from error
        yield Skipped(source.name, RejectReason.UNREADABLE)


def _of_file(source: Source, counted: "_Counted", pulse: Pulse) -> Iterator[Item]:
    suffix = suffix_of(source.name)
    reader = READERS.get(_inner_suffix(source), _read_by_content)
    if source.address.startswith("hf:"):
        return _read_rows(source, counted, pulse)
    if reader is _read_parquet and not suffix and source.address and source.size:
        with contextlib.suppress(UsageError):  # a server that gives whole files only
            file = counted.file(open_seekable(source, pulse))
            return read_parquet(source, file, iter(()))
    pieces = counted.all(chunks(source, pulse))
    return reader(source, unpacked(suffix, pieces, pulse) if suffix else pieces)


def _of_span(source: Source, counted: "_Counted", span: Span) -> Iterator[Item]:
    inside = whole_lines(source, span)
    if inside.begin >= inside.end:
        return iter(())
    pieces = counted.all(of_span(source, inside))
    if line_format(source) == "jsonl":
        return read_jsonl(source, pieces if inside.begin else without_bom(pieces))
    return read_parts(source, pieces, inside.begin, ends=inside.end == source.size)


class _Counted:
    """Pieces that are told, and counted, as they go by."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes
        self.num_bytes = 0

    def take(self, chunk: bytes) -> bytes:
        """Tell and count one."""
        self.num_bytes += len(chunk)
        self._on_bytes(chunk)
        return chunk

    def all(self, pieces: Chunks) -> Chunks:
        """The pieces."""
        return map(self.take, pieces)

    def file(self, file: BinaryIO) -> BinaryIO:
        """A file of which parts are read: these are its pieces."""
        return cast("BinaryIO", _TakenFile(file, self.take))


class _TakenFile(io.RawIOBase):
    def __init__(self, file: BinaryIO, take: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._file = file
        self._take = take

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, num_bytes: int = -1) -> bytes:
        return self._take(self._file.read(num_bytes))


def _inner_suffix(source: Source) -> str:
    """What is inside a file, by its name: ".jsonl" of shard.jsonl.zst."""
    suffix = suffix_of(source.name)
    name = source.name[: -len(suffix)] if suffix else source.name
    return Path(name).suffix.lower()


def _damaged(source: Source, damage: DamagedError) -> DataRefused:
    tests = {".gz": "gzip -t", ".bz2": "bzip2 -t", ".xz": "xz -t", ".zst": "zstd -t"}
    skip = Remedy("--skip-corrupt", "trains on the rows before the damage")
    remedies = (skip,)
    test = tests.get(suffix_of(source.name))
    if test and source.path:
        remedies = (Remedy(f"{test} {shlex.quote(source.name)}", "confirms it"), skip)
    return DataRefused(
        f"{source.name} {damage}",
        cause=Cause.SOURCE_DAMAGED,
        have=f"a damaged file of {size(source.size)}",
        need="a complete file: part of a file is never trained by accident",
        remedies=remedies,
    )


# ---- files of lines --------------------------------------------------------------------------


def line_format(source: Source) -> Literal["jsonl", "text"] | None:
    """The format of a local file, where its lines can be read separately.

    Raises:
        OSError: it cannot be read.
    """
    seen: list[bytes] = []
    reader = _reader_by_head(source, seen)
    if reader is _read_jsonl:
        return "jsonl"
    return "text" if reader is read_text and not is_binary(b"".join(seen[:1])) else None


def _reader_by_head(source: Source, seen: list[bytes]) -> Reader:
    """Which reader a local file gets; what had to be read to know it is added to `seen`.

    Raises:
        OSError: it cannot be read.
    """
    reader = READERS.get(_inner_suffix(source))
    if reader is not None:
        return reader
    assert source.path is not None
    with source.path.open("rb") as file:
        pieces = iter(functools.partial(file.read, _HEAD_BYTES), b"")
        return _reader_by_content(source, pieces, seen)


# ---- what is not told by the name ------------------------------------------------------------


def _read_by_content(source: Source, pieces: Chunks) -> Iterator[Item]:
    seen: list[bytes] = []
    reader = _reader_by_content(source, pieces, seen)
    return reader(source, itertools.chain(seen, pieces))


def _reader_by_content(source: Source, pieces: Chunks, seen: list[bytes]) -> Reader:
    """JSON when it begins with an object, or with an array of objects; else text.

    In a folder the object must be a record too: a program's source has JSON in it as well.

    Args:
        source: where it is from.
        pieces: its content; what is read of it is added to `seen`.
        seen: empty.
    """
    named_json = _inner_suffix(source) == ".json" and not source.found
    first = _first_byte(pieces, seen)
    if first not in (b"{", b"["):
        return _read_jsonl if named_json else read_text
    value = _first_value(pieces, seen)
    row = record_of(source.name, 1, value) if value and value[:1] == b"{" else None
    is_json = isinstance(row, Record) or (
        row and row.reason is not RejectReason.NOT_JSON and not source.found
    )
    if not (is_json or named_json):
        return read_text
    return _read_json if first == b"[" or (value and b"\n" in value) else _read_jsonl


def _first_byte(pieces: Chunks, seen: list[bytes]) -> bytes:
    """The first byte that is not blank."""
    for chunk in pieces:
        seen.append(chunk)
        if first := chunk.lstrip(_BLANK)[:1]:
            return first
    return b""


def _first_value(pieces: Chunks, seen: list[bytes]) -> bytes | None:
    """The first value of JSON; None where it does not end."""

    def noted() -> Chunks:
        yield from list(seen)
        for chunk in pieces:
            seen.append(chunk)
            yield chunk

    try:
        found = next(values(without_bom(noted())), None)
    except DamagedError:
        return None
    return found and found[1]


def _read_json(source: Source, pieces: Chunks) -> Iterator[Item]:
    return read_json(source, without_bom(pieces))


def _read_jsonl(source: Source, pieces: Chunks) -> Iterator[Item]:
    return read_jsonl(source, without_bom(pieces))


def _read_csv(source: Source, pieces: Chunks) -> Iterator[Item]:
    return _read_table(source, without_bom(pieces), ",")


def _read_tsv(source: Source, pieces: Chunks) -> Iterator[Item]:
    return _read_table(source, without_bom(pieces), "\t")


def _read_parquet(source: Source, pieces: Chunks) -> Iterator[Item]:
    """A local file where it lies; what is packed or a stream from a copy, gone at the end."""
    if source.path and not source.is_stream and not suffix_of(source.name):
        with source.path.open("rb") as file:
            yield from read_parquet(source, file, pieces)
        return
    with tempfile.TemporaryFile() as copy:
        for chunk in pieces:
            copy.write(chunk)
        copy.seek(0)
        yield from read_parquet(source, cast("BinaryIO", copy), iter(()))


def _read_rows(source: Source, counted: _Counted, pulse: Pulse) -> Iterator[Item]:
    """The rows of a hub's data set; what is told of them is their JSON."""
    for number, row in enumerate(hub.rows(source, pulse), 1):
        counted.take(msgspec.json.encode(row, enc_hook=_type_name))
        yield record_of_row(source.name, number, row)


def _type_name(value: object) -> str:
    return type(value).__name__


def _read_table(source: Source, pieces: Chunks, delimiter: str) -> Iterator[Item]:
    """Rows; in a folder a table whose header names no record is a text."""
    seen: list[bytes] = []
    while source.found and b"\n" not in b"".join(seen[-1:]):
        chunk = next(pieces, b"")
        if not chunk:
            break
        seen.append(chunk)
    content = itertools.chain(seen, pieces)
    if source.found and not is_table(b"".join(seen), delimiter):
        return read_text(source, content)
    return read_csv(source, content, delimiter)


# By the end of the name; all others by their content.
READERS: dict[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
