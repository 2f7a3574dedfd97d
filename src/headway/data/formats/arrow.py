"""Arrow reader: IPC streams and files, as `datasets` and Feather store tables, batch by batch."""

import io
from collections.abc import Iterator
from typing import Any

from headway.base.foreign.budget import LimitReachedError, limited
from headway.data.formats.compressed import check_growth
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    unusable_file,
)
from headway.data.formats.row_formats import RowShape, shape_of
from headway.data.formats.tables import (
    BATCH_BYTES,
    BATCH_ROWS,
    BUDGET,
    import_pyarrow,
    python_rows,
    record_of_row,
)
from headway.data.sources.source import Chunks, Source

_MAGIC = b"ARROW1"  # of a file, which holds a stream after it
_PADDED = 8
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def read_arrow(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per row; the row number serves as its line.

    Args:
        source: where the table is from.
        pieces: its content; a batch of it is in memory at a time.

    Raises:
        DamagedError: it is not Arrow, or is truncated.
        UsageError: pyarrow is not installed.
    """
    pyarrow = import_pyarrow(".arrow")[0]
    from pyarrow import ipc

    content, num_rows = _Content(pieces), 0
    try:
        with limited(BUDGET):
            reader = ipc.open_stream(content)
        names = reader.schema.names
        shape = shape_of(*names)
        if shape is None:
            found = f"keys: {', '.join(names)}"[:200]
            yield unusable_file(source, RejectReason.NO_KNOWN_FIELDS, found, keys=tuple(names))
            return
        for item in _read_batches(source, reader, shape):
            num_rows += 1
            yield item
    except LimitReachedError as error:
        raise DamagedError(f"has rows that unfold to {error}") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"cannot be read as Arrow: {error}") from error
    content.finish()
    if not num_rows:
        yield unusable_file(source, RejectReason.EMPTY, "0 rows")


def _read_batches(source: Source, reader: Any, shape: RowShape) -> Iterator[Item]:
    num_rows = num_characters = 0
    while (batch := _next(reader)) is not None:
        for row in _rows(batch.select(list(shape.read))):
            num_rows += 1
            if row is None:
                yield Rejected(source.name, num_rows, RejectReason.ROW_NOT_UTF8)
                continue
            item = record_of_row(source.name, num_rows, row, shape.unread)
            if isinstance(item, Record) and source.size:
                num_characters += sum(map(len, item.texts))
                check_growth(source.size, num_characters)
            yield item


def _next(reader: Any) -> Any:
    with limited(BUDGET):
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch, a few at a time: it may have millions."""
    row_bytes = max(1, batch.nbytes // max(batch.num_rows, 1))
    num = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
    for begin in range(0, batch.num_rows, num):
        yield from python_rows(batch.slice(begin, num))


class _Content(io.RawIOBase):
    """The stream in some content, as a file that is read once."""

    def __init__(self, pieces: Chunks) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = b""
        self._last = b""
        head = self.read(len(_MAGIC))
        self._is_file = head == _MAGIC
        if self._is_file:
            self.read(_PADDED - len(_MAGIC))
        else:
            self._held = head + self._held

    def readable(self) -> bool:
        return True

    def read(self, num_bytes: int = -1) -> bytes:
        held, num = [self._held], len(self._held)
        while (num_bytes < 0 or num < num_bytes) and (chunk := next(self._pieces, None)):
            held.append(chunk)
            num += len(chunk)
        over = max(num - num_bytes, 0) if num_bytes >= 0 else 0
        last = held[-1]  # cut before the pieces are joined: a batch may be large
        held[-1], self._held = last[: len(last) - over], last[len(last) - over :]
        taken = b"".join(held)
        self._last = (self._last + taken[-_PADDED:])[-_PADDED:]
        return taken

    def finish(self) -> None:
        """Check the end, and read what comes after the stream.

        Raises:
            DamagedError: it ends before its table does.
        """
        is_ended = self._last == _END_OF_STREAM
        tail = self._held
        for chunk in self._pieces:
            tail = (tail + chunk)[-len(_MAGIC) :]
        if not is_ended or (self._is_file and not tail.endswith(_MAGIC)):
            raise DamagedError("is truncated after its last whole batch")
