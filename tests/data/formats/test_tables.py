"""Tables become records row by row; what is no row of them is told with its place."""

import io
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headway.base.errors import Cause, DataRefused, UsageError
from headway.base.pulse import Pulse
from headway.data.formats import detect as formats
from headway.data.formats import tables
from headway.data.formats.detect import Item, read
from headway.data.formats.records import Record, Rejected, RejectReason, Skipped
from headway.data.formats.tables import Header, find_header
from headway.data.sources import hub_dataset as hub
from headway.data.sources.find import find_sources
from headway.data.sources.source import Source

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def items(path: Path, *, skip_corrupt: bool = False) -> list[Item]:
    (source,) = [s for s in find_sources([str(path)]) if s.path]
    return list(read(source, lambda _: None, Pulse(), skip_corrupt=skip_corrupt))


def csv(tmp_path: Path, content: bytes, name: str = "a.csv") -> list[Item]:
    (tmp_path / name).write_bytes(content)
    return items(tmp_path / name)


def parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def said(found: list[Item]) -> list[tuple[int, str]]:
    """Each item's line, and its text or reason."""
    return [
        (i.line, i.text or "" if isinstance(i, Record) else i.reason)
        for i in found
        if isinstance(i, Record | Rejected)
    ]


# ---- CSV -------------------------------------------------------------------------------------


def test_a_row_of_csv_has_the_fields_that_the_header_names(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbfid, text \r\n1,"one, ""1"""\r\n\r\n2,"two\r\nlines"\r\n3,\xc3\xa9'
    assert said(csv(tmp_path, content)) == [(2, 'one, "1"'), (4, "two\nlines"), (6, "\u00e9")]


def test_tabs_part_the_fields_of_tsv(tmp_path: Path) -> None:
    assert said(csv(tmp_path, b"text\tid\na, b\t1\n", "a.tsv")) == [(2, "a, b")]


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        (b"prompt,completion\nhi,ho\n", "prompt and completion"),
        (b"instruction,input,output\nhi,,ho\n", "Alpaca instructions"),
    ],
)
def test_conversations_come_as_csv_too(content: bytes, shape: str, tmp_path: Path) -> None:
    (record,) = csv(tmp_path, content)
    assert isinstance(record, Record)
    assert record.shape == shape
    assert [m["content"] for m in record.messages or ()] == ["hi", "ho"]


def test_F51_a_nasty_row_of_csv_is_rejected_with_its_line(tmp_path: Path) -> None:
    content = b'id,text\n1\n1,a,b\n1,"a"b\n1,\xff\n1,  \n1,ok\n1,a\0b\n'
    assert said(csv(tmp_path, content)) == [
        (2, "fields do not fit the header"),
        (3, "fields do not fit the header"),
        (4, "not CSV"),
        (5, "row is not UTF-8"),
        (6, "empty text"),
        (7, "ok"),
        (8, "a\0b"),
    ]


def test_a_header_that_names_a_field_twice_rejects_its_rows(tmp_path: Path) -> None:
    assert said(csv(tmp_path, b"text,text\na,b\n")) == [(2, "a key twice")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\n\n", "blank"), (b"text,id\n\n", "empty")],
    ids=["F23 empty", "F23 blank", "F23 a header alone"],
)
def test_a_table_without_rows_is_empty(content: bytes, reason: str, tmp_path: Path) -> None:
    assert said(csv(tmp_path, content)) == [(1, reason)]


@pytest.mark.parametrize(
    ("content", "where"),
    [(b'text\n"a\nb\nc', "begins on line 2"), (b'"text\na\n', "begins on line 1")],
)
def test_D09_a_quoted_field_without_an_end_would_swallow_rows(
    content: bytes, where: str, tmp_path: Path
) -> None:
    with pytest.raises(DataRefused, match=where):
        csv(tmp_path, content)


def test_F51_an_endless_field_or_line_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LONGEST_LINE", 1000)
    with pytest.raises(DataRefused, match="begins on line 2"):
        csv(tmp_path, b'text\n"' + b"a\n" * 2000)
    monkeypatch.setattr("headway.data.formats.lines.LONGEST_LINE", 1000)
    with pytest.raises(DataRefused, match=r"has a line longer than 1\.0 kB"):
        csv(tmp_path, b"text\n" + b"a" * 2000)


def test_in_a_folder_a_table_of_something_else_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("id,text\n1,hello\n")
    (tmp_path / "c.csv").write_text("")
    sources = find_sources([str(tmp_path)])
    found = [list(read(source, lambda _: None, Pulse())) for source in sources]
    assert [said(one) for one in found[:2]] == [[(1, "x,y\n1,2\n")], [(2, "hello")]]
    assert found[2] == [Skipped(str(tmp_path / "c.csv"), "empty", "0 B")]


# ---- Parquet ---------------------------------------------------------------------------------


def test_nested_columns_are_messages_and_a_row_has_its_number(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    rows = [{"messages": CHAT, "score": 1.5}, {"messages": [CHAT[0], called], "score": None}]
    first, second = items(parquet(tmp_path / "a.parquet", rows))
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.line, first.messages) == (1, tuple(CHAT))  # no tool_calls: null
    assert (second.line, (second.messages or ())[1]) == (2, called)


def test_all_row_groups_are_read_and_every_byte_told_once(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "other": "x" * 500} for n in range(3000)]
    path = parquet(tmp_path / "a.parquet", rows, row_group_size=700)
    told: list[bytes] = []
    (source,) = find_sources([str(path)])
    found = list(read(source, told.append, Pulse()))
    assert said(found) == [(n + 1, f"row {n}") for n in range(3000)]
    assert b"".join(told) == path.read_bytes()


def test_a_row_group_is_never_whole_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "word " * 2000
    rows = [{"text": f"{n} {text}"} for n in range(4000)]  # 40 MB
    options: dict[str, Any] = {"use_dictionary": False, "data_page_size": 1 << 18}
    options |= {"compression": "none", "write_batch_size": 16}
    path = parquet(tmp_path / "a.parquet", rows, row_group_size=4000, **options)
    del rows
    (source,) = find_sources([str(path)])
    before = pa.total_allocated_bytes()
    reading = read(source, lambda _: None, Pulse())
    held = [pa.total_allocated_bytes() - before for _ in reading]
    assert len(held) == 4000
    assert max(held) < 20_000_000
    file, told = io.BytesIO(path.read_bytes()), list[int]()
    monkeypatch.setattr(formats, "open_seekable", lambda *_: file)
    away = Source("s3://b/a.parquet", None, source.size, address="s3://b/a.parquet")
    list(read(away, lambda chunk: told.append(len(chunk)), Pulse()))
    assert sum(told) > 40_000_000
    assert max(told) < 2_000_000


@pytest.mark.parametrize(
    "cut", [slice(100), slice(-40), slice(0)], ids=["half", "without its end", "empty"]
)
def test_D09_a_parquet_file_that_breaks_off_is_refused(cut: slice, tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"text": "one"}] * 50)
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(DataRefused, match="cannot be read as Parquet"):
        items(path)
    (skipped,) = items(path, skip_corrupt=True)
    assert isinstance(skipped, Skipped)


def test_D09_corrupt_pages_are_refused_or_rejected_never_a_crash(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"text": f"row {n} " * 9} for n in range(99)])
    whole = path.read_bytes()
    for at in range(4, len(whole) - 8, 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = items(path)
        except DataRefused:
            continue
        assert all(isinstance(item, Record | Rejected) for item in found)


def test_D05_columns_that_make_no_record_are_listed_once(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"body": "x", "id": 1}] * 9)
    assert items(path) == [
        Rejected(str(path), 1, RejectReason.NO_KNOWN_FIELDS, "keys: body, id", ("body", "id"))
    ]


def test_F51_a_string_that_is_no_utf8_is_rejected_alone(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"\xff\xfe", b"three"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": raw}), tmp_path / "a.parquet")
    found = items(tmp_path / "a.parquet")
    assert said(found) == [(1, "one"), (2, "row is not UTF-8"), (3, "three")]


def test_a_stream_or_a_server_of_whole_files_is_read_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = parquet(tmp_path / "a.parquet", [{"text": "one"}]).read_bytes()

    def whole_files_only(*_: object) -> Any:
        raise UsageError("whole files only", cause=Cause.SOURCE_UNREADABLE)

    monkeypatch.setattr(formats, "chunks", lambda *_: iter([content[:50], content[50:]]))
    monkeypatch.setattr(formats, "open_seekable", whole_files_only)
    size = len(content)
    told: list[bytes] = []
    for source in (
        Source("a.parquet", None),
        Source("http://h/a.parquet", None, size, stamp=("e",), address="http://h/a.parquet"),
    ):
        assert said(list(read(source, told.append, Pulse()))) == [(1, "one")]
    assert b"".join(told) == content * 2


def test_elsewhere_only_what_is_needed_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"row {n}", "image": bytes([n % 251]) * 10_000} for n in range(200)]
    path = parquet(tmp_path / "a.parquet", rows, compression="none", use_dictionary=False)
    file = io.BytesIO(path.read_bytes())
    size = path.stat().st_size
    monkeypatch.setattr(formats, "open_seekable", lambda *_: file)
    source = Source("s3://b/a.parquet", None, size, stamp=("e",), address="s3://b/a.parquet")
    told: list[bytes] = []
    again: list[bytes] = []
    assert len(list(read(source, told.append, Pulse()))) == 200
    assert 0 < len(b"".join(told)) < size / 4
    list(read(source, again.append, Pulse()))
    assert again == told


def test_rows_of_the_hub_are_told_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"messages": CHAT, "image": object()}, {"text": "x"}, {"label": 1}]
    monkeypatch.setattr(hub, "rows", lambda *_: iter(rows))
    told: list[bytes] = []
    source = Source("hf://o/n", None, stamp=("commit",), address="hf://o/n")
    chat, text, bad = read(source, told.append, Pulse())
    assert isinstance(chat, Record)
    assert (text, bad) == (
        Record("hf://o/n", 2, text="x"),
        Rejected("hf://o/n", 3, RejectReason.NO_KNOWN_FIELDS, "keys: label", ("label",)),
    )
    assert told[1] == b'{"text":"x"}'


def test_without_pyarrow_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "a.parquet", [{"text": "one"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError) as refused:
        items(path)
    assert refused.value.remedies[0].do == "pip install 'headway[parquet]'"


def group_of(path: Path, table: pa.Table, **options: Any) -> tuple[Any, Any]:
    """The file of a table, and the metadata of its first row group."""
    pq.write_table(table, path, **options)
    file = path.open("rb")
    return file, pq.ParquetFile(path).metadata.row_group(0)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
def test_few_rows_are_read_at_a_time_where_a_repeated_value_is_large(
    tmp_path: Path, compression: str
) -> None:
    table = pa.table({"text": ["x" * 4_000_000] * 20})
    file, group = group_of(tmp_path / "a.parquet", table, compression=compression)
    with file:
        file.seek(7)
        assert tables.batch_rows(file, group, ["text"]) == (64 << 20) // 4_000_004
        assert tables.batch_rows(file, group, ["other"]) > 100  # a column that is not read
        assert file.tell() == 7


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_many_usual_rows_are_read_at_a_time(tmp_path: Path, use_dictionary: bool) -> None:
    table = pa.table({"text": [f"row {n}" * 20 for n in range(500)]})
    file, group = group_of(tmp_path / "a.parquet", table, use_dictionary=use_dictionary)
    with file:
        assert tables.batch_rows(file, group, ["text"]) == 256


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [{"id": 1, "messages": CHAT, "score": 0.5, "system": "be brief"}]
    (record,) = items(parquet(tmp_path / "a.parquet", rows))
    assert isinstance(record, Record)
    assert record.unread == ("id", "score")
    assert [m["content"] for m in record.messages or ()] == ["be brief", "hi", "ho"]


def test_columns_of_csv_hold_json_text(tmp_path: Path) -> None:
    content = b'input_ids,attention_mask\n"[5, 6, 0]","[1, 1, 0]"\n'
    (record,) = csv(tmp_path, content)
    assert isinstance(record, Record)
    assert (record.ids, record.notes) == ((5, 6), (("padding tokens cut", 1),))


# ---- delimiters ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_delimiter_is_the_one_that_makes_known_fields(
    name: str, mark: str, encoding: str, tmp_path: Path
) -> None:
    rows = [["prompt", "completion", "price"], ['"a; b, c"', '"d|\te"', '"1,5"'], ["f", "g", "2"]]
    path = tmp_path / name
    path.write_text("".join(mark.join(row) + "\r\n" for row in rows), encoding, newline="")
    for place in (path, tmp_path):
        sources = find_sources([str(place)])
        made = [item for source in sources for item in read(source, lambda _: None, Pulse())]
        said = [one.texts for one in made if isinstance(one, Record)]
        assert said == [["a; b, c", "d|\te"], ["f", "g"]]


@pytest.mark.parametrize("first", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n'])
def test_the_line_that_names_the_delimiter_is_no_row(first: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{first}prompt;completion\na;b\nonly one\n", newline="")
    (source,) = find_sources([str(tmp_path / "a.csv")])
    good, bad = read(source, lambda _: None, Pulse())
    assert isinstance(good, Record)
    assert isinstance(bad, Rejected)
    assert (good.line, bad.line) == (3, 4)


@pytest.mark.parametrize(
    ("head", "usual", "delimiter", "is_known"),
    [
        (b"text\na;b", ",", ",", True),
        (b"text\na;b", "\t", "\t", True),
        (b"text;id", ",", ";", True),
        (b"frage;antwort", ",", ";", False),
        (b"frage,antwort;nummer", ",", ",", False),
        (b"words", ",", ",", False),
        (b"", ",", ",", False),
        (b'"text";"id"', ",", ";", True),
        (b'"text;id', ",", ",", False),
        (b"\r\n\ntext|id\n", ",", "|", True),
    ],
)
def test_a_header_that_names_nothing_known_keeps_the_usual_delimiter_if_it_fits(
    head: bytes, usual: str, delimiter: str, is_known: bool
) -> None:
    assert find_header(head, usual) == Header(delimiter, is_known)
