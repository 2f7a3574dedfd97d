"""Table readers: CSV and TSV with a header row, Parquet in batches."""

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.units import count, plural, size
from headway.data.formats.lines import LONGEST_LINE, Overlong, lines
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    unusable_file,
)
from headway.data.formats.row_formats import KEYS, record_of_fields, shape_of
from headway.data.sources.source import Chunks, Source

_BATCH_ROWS = 256  # few: a repeated value is small in the file and large in memory
_BUFFER_BYTES = 1 << 20

# ---- CSV -------------------------------------------------------------------------------------


def read_csv(source: Source, pieces: Chunks, delimiter: str) -> Iterator[Item]:
    """One record per row; the first row names the fields.

    Raises:
        DamagedError: the file ends inside a quoted field, or has no valid header.
    """
    names: list[str] = []
    num_rows = 0
    for line, row in _rows(pieces, delimiter):
        if not names and isinstance(row, str):
            raise DamagedError(f"has no valid header on line {count(line)}: {row}")
        if not names:
            names = [_printable(name).strip() for name in row]
        elif row:
            num_rows += 1
            yield _record(source.name, line, names, row)
    if names and not num_rows:
        yield unusable_file(source, RejectReason.EMPTY, "a header without rows")


def is_table(head: bytes, delimiter: str) -> bool:
    """Whether the first line is a header that names the fields of a known format."""
    header = next(_rows(iter([head.partition(b"\n")[0]]), delimiter), None)
    return header is not None and not isinstance(header[1], str) and _makes_records(header[1])


def _makes_records(names: list[str]) -> bool:
    return shape_of(*names) is not None


def _rows(pieces: Chunks, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The first line of each row, with its fields or the error in it; [] is a blank line."""
    csv.field_size_limit(LONGEST_LINE)
    rows = csv.reader(_text_lines(pieces), delimiter=delimiter, strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            if rows.line_num == line - 1 or "end of data" in str(error) or "limit" in str(error):
                raise DamagedError(
                    f"has a quoted field that begins on line {count(line)} and is never closed"
                ) from error
            yield line, str(error)
            continue
        if row is None:
            return
        yield line, row


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
    pyarrow, parquet = _pyarrow()
    try:
        table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        names = table.schema_arrow.names
        if not table.metadata.num_rows:
            yield unusable_file(source, RejectReason.EMPTY, "0 rows")
        elif not _makes_records(names):
            found = f"keys: {', '.join(names)}"[:200]
            yield unusable_file(source, RejectReason.NO_KNOWN_FIELDS, found, keys=tuple(names))
        else:
            yield from _read_batches(source, table, pieces)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"cannot be read as Parquet: {error}") from error
    for _ in pieces:
        pass


def _read_batches(source: Source, table: Any, pieces: Chunks) -> Iterator[Item]:
    names = [name for name in table.schema_arrow.names if name in KEYS]
    num_rows = num_bytes = 0
    for batch in table.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
        for row in _python_rows(batch):
            num_rows += 1
            if row is None:
                yield Rejected(source.name, num_rows, RejectReason.ROW_NOT_UTF8)
            else:
                yield record_of_row(source.name, num_rows, row)
        while num_bytes * table.metadata.num_rows < source.size * num_rows:
            chunk = next(pieces, None)
            if chunk is None:
                break
            num_bytes += len(chunk)


def record_of_row(file: str, number: int, row: dict[str, Any]) -> Record | Rejected:
    """Parse a row of typed columns as a record, or reject it with a reason."""
    fields = {name: _drop_nulls(value) for name, value in row.items()}
    return record_of_fields(file, number, fields)


def _python_rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for a row with an invalid string."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None


def _drop_nulls(value: Any) -> Any:
    """Drop null keys: in a column, a message has every key that any message in it has."""
    if isinstance(value, list):
        return [_drop_nulls(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _drop_nulls(one) for key, one in items if one is not None}
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "reading .parquet needs a package that is not installed",
            cause=Cause.MISSING_PACKAGE,
            have="no pyarrow",
            need="headway[parquet]",
            remedies=(Remedy("pip install 'headway[parquet]'", "pyarrow"),),
        ) from None
    return pyarrow, parquet
