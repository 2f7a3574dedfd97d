"""Arrow tables are read row by row from their streams and files, and never in part by accident."""

import gzip
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather, ipc

from headway.base.errors import Cause, DataRefused, UsageError
from headway.base.foreign.budget import Budget, limited
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Item, Record, Rejected, RejectReason
from headway.data.sources.find import find_sources

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
ROWS = [{"id": n, "text": f"row {n}"} for n in range(2000)]


def items(path: Path) -> list[Item]:
    (source,) = find_sources([str(path)])
    return list(read(source, lambda _: None, Pulse()))


def as_stream(path: Path, rows: list[dict[str, Any]], batch_rows: int = 1000) -> None:
    table = pa.Table.from_pylist(rows)
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, batch_rows)


def as_file(path: Path, rows: list[dict[str, Any]], batch_rows: int = 1000) -> None:
    table = pa.Table.from_pylist(rows)
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, batch_rows)


def as_feather(path: Path, rows: list[dict[str, Any]], batch_rows: int = 1000) -> None:
    feather.write_feather(pa.Table.from_pylist(rows), path, chunksize=batch_rows)


WRITERS: list[Callable[..., None]] = [as_stream, as_file, as_feather]


@pytest.mark.parametrize("name", ["a.arrow", "a.feather"])
@pytest.mark.parametrize("write", WRITERS)
def test_every_row_is_read_with_its_number(
    write: Callable[..., None], name: str, tmp_path: Path
) -> None:
    write(tmp_path / name, ROWS, 300)
    told: list[bytes] = []
    (source,) = find_sources([str(tmp_path / name)])
    made = list(read(source, told.append, Pulse()))
    assert [(one.line, one.text) for one in made if isinstance(one, Record)] == [
        (n + 1, row["text"]) for n, row in enumerate(ROWS)
    ]
    assert b"".join(told) == (tmp_path / name).read_bytes()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert len(items(tmp_path / f"{name}.gz")) == len(ROWS)


def test_conversations_are_read_and_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    as_stream(tmp_path / "a.arrow", [{"id": 1, "messages": CHAT}])
    (record,) = items(tmp_path / "a.arrow")
    assert isinstance(record, Record)
    assert record.messages == tuple(CHAT)
    assert record.unread == ("id",)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("cut", [1, 8, 100, 5000])
def test_a_truncated_table_is_refused(write: Callable[..., None], cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    write(path, ROWS)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataRefused) as caught:
        items(path)
    assert caught.value.cause is Cause.SOURCE_DAMAGED


def test_a_stream_that_ends_between_two_batches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    as_stream(path, ROWS, 1000)
    whole = path.read_bytes()
    reader = ipc.open_stream(pa.BufferReader(whole))
    reader.read_next_batch()
    sink = pa.BufferOutputStream()
    writer = ipc.new_stream(sink, reader.schema)
    writer.write_batch(pa.RecordBatch.from_pylist(ROWS[:1000], reader.schema))
    path.write_bytes(sink.getvalue().to_pybytes())
    with pytest.raises(DataRefused, match="is truncated after its last whole batch"):
        items(path)


@pytest.mark.parametrize(
    "content", [b"words", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff\xff\xff\xff\x7f"]
)
def test_what_is_no_table_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(content)
    with pytest.raises(DataRefused, match=r"a\.arrow cannot be read as Arrow"):
        items(tmp_path / "a.arrow")


def test_no_rows_and_other_columns_are_rejected_with_the_columns(tmp_path: Path) -> None:
    with ipc.new_stream(tmp_path / "a.arrow", pa.schema([("text", pa.string())])):
        pass
    (empty,) = items(tmp_path / "a.arrow")
    assert isinstance(empty, Rejected)
    assert (empty.reason, empty.detail) == (RejectReason.EMPTY, "0 rows")
    as_stream(tmp_path / "b.arrow", [{"frage": "a", "id": 1}])
    (other,) = items(tmp_path / "b.arrow")
    assert isinstance(other, Rejected)
    assert (other.reason, other.keys) == (RejectReason.NO_KNOWN_FIELDS, ("frage", "id"))


def test_a_table_that_unfolds_to_gigabytes_is_refused_within_bounds(tmp_path: Path) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 8_000_000])
    table = pa.table({"text": values})
    with ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    (source,) = find_sources([str(tmp_path / "a.arrow")])
    refused = pytest.raises(DataRefused, match=r"expands more than 250 times|unfold to more than")
    with refused, limited(Budget(memory_bytes=700_000_000, cpu_s=60)):
        deque(read(source, lambda _: None, Pulse()), maxlen=0)


def test_a_large_batch_is_turned_into_rows_a_few_at_a_time(tmp_path: Path) -> None:
    as_stream(tmp_path / "a.arrow", [{"text": "x" * 1_000_000}] * 150, 150)
    (source,) = find_sources([str(tmp_path / "a.arrow")])
    with limited(Budget(memory_bytes=500_000_000, cpu_s=60)):
        assert sum(1 for _ in read(source, lambda _: None, Pulse())) == 150


def test_a_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_stream(tmp_path / "a.arrow", ROWS[:1])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reading \.arrow needs a package"):
        items(tmp_path / "a.arrow")
