"""Table readers: CSV and TSV with a header row, Parquet in batches."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.budget import Budget, LimitReachedError, limited
from headway.base.units import count, plural, size
from headway.data.formats.compressed import check_growth
from headway.data.formats.fields.values import drop_nulls
from headway.data.formats.lines import LONGEST_LINE, Overlong, lines
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    unusable_file,
)
from headway.data.formats.row_formats import RowShape, record_of_fields, shape_of
from headway.data.sources.source import Chunks, Source

BATCH_ROWS = 256  # few: a repeated value is small in the file and large in memory
BATCH_BYTES = 64 << 20
_HEADER_BYTES, _NEXT_I32, _DICTIONARY_PAGE = 16, b"\x15", 2  # of a Parquet page
_BUFFER_BYTES = 1 << 20
BUDGET = Budget(memory_bytes=512_000_000, cpu_s=60.0)  # of one batch
_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?', re.IGNORECASE)

# ---- CSV -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """How the first row of a table is written.

    Attributes:
        delimiter: between fields.
        is_known: it names the fields of a known format.
        num_before: lines before it: Excel writes one that names the delimiter.
    """

    delimiter: str
    is_known: bool
    num_before: int = 0


def find_header(head: bytes, usual: str) -> Header:
    """The delimiter that makes the first line name the fields of a known format.

    If none does, it is the usual one, or another if only that one makes several fields.

    Args:
        head: the beginning of the content.
        usual: the delimiter that the file's name suggests.
    """
    line, _, rest = head.lstrip(b"\r\n").partition(b"\n")
    named = _SEPARATOR_LINE.fullmatch(line.strip())
    if named:
        line, usual = rest.partition(b"\n")[0], named[1].decode(errors="replace")
    num_before = 1 if named else 0
    fields = {mark: _fields_of(line, mark) for mark in dict.fromkeys((usual, *_DELIMITERS))}
    for mark, names in fields.items():
        if shape_of(*names):
            return Header(mark, True, num_before)
    most = max(fields, key=lambda mark: len(fields[mark]))
    return Header(usual if len(fields[usual]) > 1 else most, False, num_before)


def _fields_of(line: bytes, delimiter: str) -> list[str]:
    try:
        header = next(_rows(iter([line]), delimiter), None)
    except DamagedError:
        return []
    return [] if header is None or isinstance(header[1], str) else _names_of(header[1])


def _names_of(row: Sequence[str]) -> list[str]:
    return [_printable(name).strip() for name in row]


def read_csv(source: Source, pieces: Chunks, header: Header) -> Iterator[Item]:
    """One record per row; the first row names the fields.

    Raises:
        DamagedError: the file ends inside a quoted field, or has no valid header.
    """
    names: list[str] = []
    num_rows, left = 0, header.num_before
    for line, row in _rows(pieces, header.delimiter):
        if left and row:
            left -= 1
            continue
        if not names and isinstance(row, str):
            raise DamagedError(f"has no valid header on line {count(line)}: {row}")
        if not names:
            names = _names_of(row)
        elif row:
            num_rows += 1
            yield _record(source.name, line, names, row)
    if names and not num_rows:
        yield unusable_file(source, RejectReason.EMPTY, "a header without rows")


def _rows(pieces: Chunks, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The first line of each row, with its fields or the error in it; [] is a blank line."""
    csv.field_size_limit(LONGEST_LINE)
    text = _LinesOfRow(_text_lines(pieces))
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = rows.line_num + 1
        text.num_characters = 0
        try:
            row = next(rows, None)
        except csv.Error as error:
            is_endless = text.has_ended or text.num_characters > LONGEST_LINE
            if is_endless or rows.line_num == line - 1:
                raise DamagedError(
                    f"has a quoted field that begins on line {count(line)} and is never closed"
                ) from error
            yield line, str(error)
            continue
        if row is None:
            return
        yield line, row


class _LinesOfRow(Iterator[str]):
    """The lines that a CSV reader takes, for its errors have no attribute that tells them apart.

    Args:
        lines: of the file.

    Attributes:
        num_characters: taken since it was last set to 0.
        has_ended: the reader wanted one more line than there are.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self.num_characters = 0
        self.has_ended = False
        self._lines = lines

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.has_ended = True
            raise
        self.num_characters += len(line)
        return line


def _text_lines(pieces: Chunks) -> Iterator[str]:
    """Lines with line ends. Invalid UTF-8 becomes lone surrogates, which `_record` finds."""
    for raw in lines(pieces):
        if isinstance(raw, Overlong):
            raise DamagedError(f"has a line longer than {size(LONGEST_LINE)}: {bytes(raw)!r}")
        yield raw.removesuffix(b"\r").decode(errors="surrogateescape") + "\n"


def _record(file: str, line: int, names: list[str], row: list[str] | str) -> Record | Rejected:
    if isinstance(row, str):
        return Rejected(file, line, RejectReason.NOT_CSV, row)
    if len(row) != len(names):
        detail = f"{plural(len(row), 'field')}, the header has {len(names)}"
        return Rejected(file, line, RejectReason.WRONG_NUMBER_OF_FIELDS, detail)
    fields = dict(zip(names, row, strict=True))
    if len(fields) < len(names):
        return Rejected(file, line, RejectReason.REPEATED_KEY, ", ".join(names)[:200])
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        shown = _printable(max(row, key=_is_not_utf8))
        return Rejected(file, line, RejectReason.ROW_NOT_UTF8, shown[:80])
    return record_of_fields(file, line, fields)


def _is_not_utf8(text: str) -> bool:
    return text != _printable(text)


def _printable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


# ---- Parquet ---------------------------------------------------------------------------------


def read_parquet(source: Source, file: BinaryIO, pieces: Chunks) -> Iterator[Item]:
    """One record per row; the row number serves as its line.

    Args:
        source: where the table is from.
        file: its content, seekable.
        pieces: its content from the start, consumed in step with the rows so that progress and
            the hash of the content follow; empty if reads of `file` are reported.

    Raises:
        DamagedError: the file is not Parquet, or is truncated.
        UsageError: pyarrow is not installed.
    """
    pyarrow, parquet = import_pyarrow(".parquet")
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        names = table.schema_arrow.names
        if not table.metadata.num_rows:
            yield unusable_file(source, RejectReason.EMPTY, "0 rows")
        elif (shape := shape_of(*names)) is None:
            found = f"keys: {', '.join(names)}"[:200]
            yield unusable_file(source, RejectReason.NO_KNOWN_FIELDS, found, keys=tuple(names))
        else:
            yield from _read_batches(source, file, table, shape, pieces)
    except LimitReachedError as error:
        raise DamagedError(f"has rows that unfold to {error}") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"cannot be read as Parquet: {error}") from error
    for _ in pieces:
        pass


def _read_batches(
    source: Source, file: BinaryIO, table: Any, shape: RowShape, pieces: Chunks
) -> Iterator[Item]:
    num_rows = num_bytes = num_characters = 0
    for batch in _batches(file, table, list(shape.read)):
        for row in python_rows(batch):
            num_rows += 1
            item = (
                Rejected(source.name, num_rows, RejectReason.ROW_NOT_UTF8)
                if row is None
                else record_of_row(source.name, num_rows, row, shape.unread)
            )
            if isinstance(item, Record) and source.size:
                num_characters += sum(map(len, item.texts))
                check_growth(source.size, num_characters)
            yield item
        while num_bytes * table.metadata.num_rows < source.size * num_rows:
            chunk = next(pieces, None)
            if chunk is None:
                break
            num_bytes += len(chunk)


def _batches(file: BinaryIO, table: Any, names: list[str]) -> Iterator[Any]:
    for number in range(table.metadata.num_row_groups):
        num = batch_rows(file, table.metadata.row_group(number), names)
        batches = table.iter_batches(num, row_groups=[number], columns=names, use_threads=False)
        while (batch := _next(batches)) is not None:
            yield batch


def _next(batches: Iterator[Any]) -> Any:
    with limited(BUDGET):
        return next(batches, None)


def batch_rows(file: BinaryIO, group: Any, names: Sequence[str]) -> int:
    """Rows of a row group to read at a time: few where they may be large.

    A value that repeats is stored once, in a dictionary: 400 kB of a file may stand for gigabytes.

    Args:
        file: of the table.
        group: the row group's metadata.
        names: the columns to read.
    """
    row_bytes = group.total_byte_size // max(group.num_rows, 1)
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema.partition(".")[0] in names:
            values = -(-column.num_values // max(group.num_rows, 1))
            row_bytes = max(row_bytes, values * _dictionary_bytes(file, column))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)))


def _dictionary_bytes(file: BinaryIO, column: Any) -> int:
    """Bytes of a column's dictionary, as the header of its page says; 0 if it has none.

    The header is a Thrift struct in the compact protocol, and begins with two i32: the page's type
    and its size (parquet.thrift, PageHeader).
    """
    at = file.tell()
    file.seek(column.dictionary_page_offset or column.data_page_offset)
    header = file.read(_HEADER_BYTES)
    file.seek(at)
    values: list[int] = []
    for _ in range(2):
        if header[:1] != _NEXT_I32:
            return 0
        number = shift = 0
        for byte in header[1:]:
            header = header[1:]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        header = header[1:]
        values.append(number >> 1)  # zigzag: neither is negative
    page, num_bytes = values
    return num_bytes if page == _DICTIONARY_PAGE else 0


def record_of_row(
    file: str, number: int, row: dict[str, Any], unread: tuple[str, ...] = ()
) -> Record | Rejected:
    """Parse a row of typed columns as a record, or reject it with a reason.

    Args:
        file: with the table.
        number: of the row.
        row: the values that were read.
        unread: names of the other columns.
    """
    fields = {name: drop_nulls(value) for name, value in row.items()}
    return record_of_fields(file, number, fields, unread)


def python_rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for a row with an invalid string."""
    try:
        with limited(BUDGET):
            rows = batch.to_pylist()
        yield from rows
    except UnicodeDecodeError:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None


def import_pyarrow(suffix: str) -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Args:
        suffix: of the file that needs them.

    Raises:
        UsageError: they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            f"reading {suffix} needs a package that is not installed",
            cause=Cause.MISSING_PACKAGE,
            have="no pyarrow",
            need="headway[parquet]",
            remedies=(Remedy("pip install 'headway[parquet]'", "pyarrow"),),
        ) from None
    return pyarrow, parquet
