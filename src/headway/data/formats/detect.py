"""Format detection: the reader of each source, by name or by content.

A format is one function and its line in `READERS`; row formats are in `row_formats.py`.
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

from headway.base.errors import Cause, DataRefused, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary, describe
from headway.base.foreign.lfs import POINTER_BYTES, fetch_remedy, is_pointer
from headway.base.pulse import Pulse
from headway.base.units import size
from headway.data.formats.arrow import read_arrow
from headway.data.formats.compressed import converting, decompress, suffix_of
from headway.data.formats.encodings import EncodingError, to_utf8, wide_encoding
from headway.data.formats.fields.preferences import selected
from headway.data.formats.json import read_jsonl
from headway.data.formats.json_layout import Head, SeveralListsError, find_layout, read_layout
from headway.data.formats.lines import LONGEST_LINE, read_span, strip_bom, whole_lines
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    RejectReason,
    Skipped,
    unusable_file,
)
from headway.data.formats.tables import find_header, read_csv, read_parquet, record_of_row
from headway.data.formats.text import is_binary, read_parts, read_text
from headway.data.sources import hub_dataset as hub
from headway.data.sources.find import chunks, open_local, open_seekable
from headway.data.sources.folders import source_unreadable
from headway.data.sources.source import Chunks, Source, Span

Reader = Callable[[Source, Chunks], Iterator[Item]]
OnBytes = Callable[[bytes], None]

_HEAD_BYTES = 1 << 16
_HEADER_BYTES = 1 << 20
_SHOWN_LISTS = 4
_NO_OBJECT = (RejectReason.NOT_JSON, RejectReason.NOT_AN_OBJECT)
_LINES = (".jsonl", ".ndjson")
_BINARY = (".parquet", ".arrow", ".feather")


def read(
    source: Source,
    on_bytes: OnBytes,
    pulse: Pulse,
    *,
    span: Span | None = None,
    skip_corrupt: bool = False,
    preferred_only: bool = False,
) -> Iterator[Item]:
    """The records of one source, in order, as they arrive; reading again gives the same ones.

    Args:
        source: from `find_sources`.
        on_bytes: called once with each piece of the stored content as it is read.
        pulse: shows every wait for a stream.
        span: read only the lines that begin in it, numbered from 1. The source must satisfy
            `can_split`.
        skip_corrupt: skip the rest of a damaged file. The rows before the damage stay, because
            they were read completely.
        preferred_only: read the preferred answers of preference data; otherwise it is rejected.

    Raises:
        UsageError: a named file cannot be opened or read, or a package is missing.
        DataRefused: a file is damaged.
        ComeBack: the file changed while it was being read.
    """
    counted, num_items = _Counted(on_bytes), 0
    try:
        items = _of_span(source, counted, span, pulse) if span else _of_file(source, counted, pulse)
        for item in items:
            num_items += 1
            if isinstance(item, Record) and item.feedback:
                item = selected(item, preferred_only=preferred_only)
            yield item
        if not num_items and span is None:
            reason = RejectReason.BLANK if counted.num_bytes else RejectReason.EMPTY
            yield unusable_file(source, reason, size(counted.num_bytes))
    except DamagedError as damage:
        if isinstance(damage, EncodingError) and source.found and not num_items:
            yield Skipped(source.name, RejectReason.NOT_UTF8, str(damage))
            return
        if not skip_corrupt:
            raise _source_damaged(source, damage) from damage
        yield Skipped(source.name, RejectReason.DAMAGED, f"{damage}; {num_items} rows before that")
    except OSError as error:
        if not source.found:
            raise source_unreadable(source.name, error) from error
        yield Skipped(source.name, RejectReason.UNREADABLE)
    except Refusal:
        raise
    except Exception as error:  # of a library, or of a reader that met what nobody foresaw
        raise _not_readable(source, num_items).refusal(describe(error)) from error


def _of_file(source: Source, counted: "_Counted", pulse: Pulse) -> Iterator[Item]:
    suffix = suffix_of(source.name)
    reader = READERS.get(_inner_suffix(source), _read_by_content)
    if source.address.startswith("hf:"):
        return _read_rows(source, counted, pulse)
    if reader is _read_parquet and not suffix and source.address and source.size > POINTER_BYTES:
        with contextlib.suppress(UsageError):  # a server without range requests
            file = counted.file(open_seekable(source, pulse))
            return read_parquet(source, file, iter(()))
    pieces = counted.all(chunks(source, pulse))
    head = next(pieces, b"")
    if is_pointer(head):
        return iter([_passed_pointer(source)])
    pieces = itertools.chain([head] if head else [], pieces)
    pieces = decompress(suffix, pieces, pulse) if suffix else pieces
    return reader(source, pieces if _inner_suffix(source) in _BINARY else to_utf8(pieces))


def _of_span(source: Source, counted: "_Counted", span: Span, pulse: Pulse) -> Iterator[Item]:
    is_jsonl = line_format(source) == "jsonl"
    # A longer row is rejected, so its end is not worth looking for.
    inside = whole_lines(source, span, pulse, LONGEST_LINE + 1 if is_jsonl else None)
    if inside.begin >= inside.end:
        return iter(())
    pieces = counted.all(read_span(source, inside))
    if is_jsonl:
        return read_jsonl(source, pieces if inside.begin else strip_bom(pieces))
    return read_parts(source, pieces, inside.begin, ends=inside.end == source.size)


def _passed_pointer(source: Source) -> Skipped:
    """A pointer in a folder whose name is not that of data.

    Raises:
        DataRefused: it stands for data.
    """
    if source.found and _inner_suffix(source) not in (*READERS, *_LINES, ".json", ".txt", ".md"):
        return Skipped(source.name, RejectReason.LFS_POINTER)
    raise DataRefused(
        f"{source.name} is a Git LFS pointer",
        cause=Cause.SOURCE_DAMAGED,
        have="a short text that stands in for a file that was not fetched",
        need="the file itself",
        remedies=(fetch_remedy(source.name),),
    )


class _Counted:
    """Reports and counts the stored bytes as they are read."""

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes
        self.num_bytes = 0

    def take(self, chunk: bytes) -> bytes:
        """Report and count one piece."""
        self.num_bytes += len(chunk)
        self._on_bytes(chunk)
        return chunk

    def all(self, pieces: Chunks) -> Chunks:
        """The pieces, reported as they are read."""
        return map(self.take, pieces)

    def file(self, file: BinaryIO) -> BinaryIO:
        """A seekable file whose reads are reported."""
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
    """The format suffix under the compression: ".jsonl" of shard.jsonl.zst."""
    suffix = suffix_of(source.name)
    name = source.name[: -len(suffix)] if suffix else source.name
    return Path(name).suffix.lower()


def _not_readable(source: Source, num_items: int) -> Boundary:
    return Boundary(
        f"{source.name} cannot be read after row {num_items}",
        cause=Cause.SOURCE_DAMAGED,
        need="a file whose name says what it holds, or a copy in another format",
        remedies=(Remedy(f"file {shlex.quote(source.name)}", "shows what it is"),),
        kind=DataRefused,
    )


def _source_damaged(source: Source, damage: DamagedError) -> DataRefused:
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
        need="a complete file: Headway never trains on part of a file by accident",
        remedies=remedies,
    )


def _several_lists(source: Source, several: SeveralListsError) -> DataRefused:
    names = [".".join(path) for path in several.paths]
    code = (
        "import json, sys; f = open(sys.argv[1]) if sys.argv[1:] else sys.stdin; d = json.load(f)"
    )
    remedies: list[Remedy] = []
    for path, name in zip(several.paths, names, strict=True):
        keys = "".join(f"[{key!r}]" for key in path)
        write = f"{code}; [print(json.dumps(row)) for row in d{keys}]"
        command = converting(source.name, f"python -c {shlex.quote(write)}", f".{path[-1]}.jsonl")
        remedies.append(Remedy(command, f"then train that file: {name} alone"))
    return DataRefused(
        f"{source.name} holds several lists of rows",
        cause=Cause.NO_USABLE_RECORDS,
        have=", ".join(names),
        need="one list, or one named train next to held-out ones",
        remedies=tuple(remedies[:_SHOWN_LISTS]),
    )


# ---- files of lines --------------------------------------------------------------------------


@functools.lru_cache(256)
def line_format(source: Source) -> Literal["jsonl", "text"] | None:
    """The format of a local file whose lines can be read separately; None for any other file.

    Raises:
        OSError: it cannot be read.
    """
    seen: list[bytes] = []
    try:
        reader = _reader_by_head(source, seen)
    except SeveralListsError:  # reported, or skipped, when the file is read
        return None
    if wide_encoding(b"".join(seen[:1])):
        return None
    if reader is _read_jsonl:
        return "jsonl"
    return "text" if reader is read_text and not is_binary(b"".join(seen[:1])) else None


def _reader_by_head(source: Source, seen: list[bytes]) -> Reader:
    """The reader for a local file; the bytes read to find out are added to `seen`.

    Raises:
        OSError: it cannot be read.
    """
    reader = READERS.get(_inner_suffix(source))
    if reader is not None:
        return reader
    with open_local(source) as file:
        pieces = iter(functools.partial(file.read, _HEAD_BYTES), b"")
        return _reader_by_content(source, pieces, seen)


# ---- by content ------------------------------------------------------------------------------


def _read_by_content(source: Source, pieces: Chunks) -> Iterator[Item]:
    seen: list[bytes] = []
    try:
        reader = _reader_by_content(source, pieces, seen)
        yield from reader(source, itertools.chain(seen, pieces))
    except SeveralListsError as several:
        if not source.found:
            raise _several_lists(source, several) from several
        names = ", ".join(".".join(path) for path in several.paths)
        yield Skipped(source.name, RejectReason.SEVERAL_LISTS, names)


def _reader_by_content(source: Source, pieces: Chunks, seen: list[bytes]) -> Reader:
    """JSON if it begins like JSON or is named so, otherwise text.

    In a folder, what is not named `.jsonl` must also begin with a record: source code contains
    JSON too.

    Args:
        source: where the content is from.
        pieces: the content; the pieces that are read are added to `seen`.
        seen: an empty list.

    Raises:
        SeveralListsError: an object has several lists of rows.
    """
    suffix = _inner_suffix(source)
    is_named = suffix in _LINES or (suffix == ".json" and not source.found)
    layout = find_layout(source.name, Head(pieces, seen))
    if layout is None:
        return _read_jsonl if is_named else read_text
    first = layout.first
    is_json = isinstance(first, Record) or (
        first is not None and first.reason not in _NO_OBJECT and not source.found
    )
    if not is_json and not is_named:
        return read_text
    if layout.kind == "lines":
        return _read_jsonl
    return functools.partial(read_layout, layout=layout)


def _read_jsonl(source: Source, pieces: Chunks) -> Iterator[Item]:
    return read_jsonl(source, strip_bom(pieces))


def _read_csv(source: Source, pieces: Chunks) -> Iterator[Item]:
    return _read_table(source, strip_bom(pieces), ",")


def _read_tsv(source: Source, pieces: Chunks) -> Iterator[Item]:
    return _read_table(source, strip_bom(pieces), "\t")


def _read_parquet(source: Source, pieces: Chunks) -> Iterator[Item]:
    """Read a local file in place; copy a compressed file or a stream to a temporary file first."""
    if source.path and not source.is_stream and not suffix_of(source.name):
        with io.BufferedReader(open_local(source)) as file:
            yield from read_parquet(source, file, pieces)
        return
    with tempfile.TemporaryFile() as copy:
        for chunk in pieces:
            copy.write(chunk)
        copy.seek(0)
        yield from read_parquet(source, cast("BinaryIO", copy), iter(()))


def _read_rows(source: Source, counted: _Counted, pulse: Pulse) -> Iterator[Item]:
    """The rows of a Hub dataset; their JSON is reported as the bytes read."""
    for number, row in enumerate(hub.rows(source, pulse), 1):
        counted.take(msgspec.json.encode(row, enc_hook=_type_name))
        yield record_of_row(source.name, number, row)


def _type_name(value: object) -> str:
    return type(value).__name__


def _read_table(source: Source, pieces: Chunks, usual: str) -> Iterator[Item]:
    """Rows of a table; in a folder, a file whose header names no record fields is plain text."""
    seen: list[bytes] = []
    num_bytes = 0
    while num_bytes < _HEADER_BYTES and b"\n" not in b"".join(seen[-1:]).lstrip():
        chunk = next(pieces, b"")
        if not chunk:
            break
        seen.append(chunk)
        num_bytes += len(chunk)
    header = find_header(b"".join(seen), usual)
    content = itertools.chain(seen, pieces)
    if source.found and not header.is_known:
        return read_text(source, content)
    return read_csv(source, content, header)


# By suffix; all other files by their content.
READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
