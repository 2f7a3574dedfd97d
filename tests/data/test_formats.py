"""The bytes of a file become documents and rows; what is none is told with its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.pulse import Pulse
from headway.data.formats import READERS, Item, read
from headway.data.records import Record, Rejected
from headway.data.source import Source
from headway.data.sources import find


def items(*names: object) -> list[Item]:
    """Everything that is read from the named sources."""
    sources = find([str(name) for name in names])
    return [i for source in sources for i in read(source, lambda _: None, Pulse()) if i is not None]


def only(*names: object) -> Item:
    (item,) = items(*names)
    return item


def texts(*names: object) -> list[str | None]:
    return [item.text for item in items(*names) if isinstance(item, Record)]


# ---- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfafter a BOM\n", "after a BOM\n"),
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        ("caf\u00e9 \u65e5\u672c".encode(), "caf\u00e9 \u65e5\u672c"),
        (b"a" * 9000 + b"\0", "a" * 9000 + "\0"),
        (b"  \n{not json}", "  \n{not json}"),
        (b'{"a": 1', '{"a": 1'),
    ],
    ids=["plain", "BOM", "CRLF", "utf-8", "late NUL", "brace", "half an object"],
)
def test_a_text_file_is_one_document(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert only(path) == Record(str(path), 1, text=text)


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", "empty", "0 B"),
        (b"\n \r\n\t\n", "blank", "6 B"),
        (b"abc\0def", "binary", "a zero byte in the first 8,192"),
        (b"caf\xe9 au lait", "not UTF-8", "byte 0xe9 at offset 3"),
        (b"cut\xe2\x82", "not UTF-8", "byte 0xe2 at offset 3"),
        (b"x" * (1 << 20) + b"\xff", "not UTF-8", "byte 0xff at offset 1,048,576"),
        (b"x" * ((1 << 20) - 1) + b"\xe2\x82x", "not UTF-8", "byte 0xe2 at offset 1,048,575"),
    ],
    ids=["F23 empty", "F23 blank", "NUL", "latin1", "cut short", "later", "over a seam"],
)
def test_a_named_file_that_is_no_text_is_rejected_with_the_place(
    content: bytes, reason: str, detail: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert only(path) == Rejected(str(path), 1, reason, detail)


def test_a_character_over_the_seam_of_two_pieces_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "x" * ((1 << 20) - 1) + "\u20ac" + "y"
    path.write_text(text)
    assert texts(path) == [text]


def test_every_byte_is_told_once_and_in_order(tmp_path: Path) -> None:
    told: list[bytes] = []
    for name, content in (("a.txt", b"\xef\xbb\xbfa\r\nb"), ("b.jsonl", b'{"text":"c"}\n\n{')):
        (tmp_path / name).write_bytes(content)
    for source in find([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]):
        list(read(source, told.append, Pulse()))
    assert b"".join(told) == b'\xef\xbb\xbfa\r\nb{"text":"c"}\n\n{'


# ---- JSONL -----------------------------------------------------------------------------------


def test_rows_keep_their_line_numbers_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n\n   \n{"text": "four\\r\\n"}\n{"text": "five"}'
    )
    assert items(path) == [
        Record(str(path), 1, text="one"),
        Record(str(path), 4, text="four\r\n"),
        Record(str(path), 5, text="five"),
    ]


def test_F51_a_nasty_row_is_rejected_with_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    nasty = (b"{half", b"\xff\xfe", b"\0", b"[" * 10_000)
    path.write_bytes(b'{"text": "before"}\n' + b"\n".join(nasty) + b'\n{"text": "after"}\n{"te')
    before, *rejected, after, half = items(path)
    assert isinstance(before, Record)
    assert isinstance(after, Record)
    assert after.line == 6
    assert [r.line for r in (*rejected, half) if isinstance(r, Rejected)] == [2, 3, 4, 5, 7]


def test_jsonl_is_known_by_its_content_too(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b'\n\n{"text": "one"}\n{"text": "two"}\n')
    assert texts(path) == ["one", "two"]


def test_in_a_folder_json_is_source_code_unless_it_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "rows.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts(tmp_path) == ['{"name": "x"}', "one", "two"]
    named = only(tmp_path / "package.json")
    assert isinstance(named, Rejected)
    assert named.reason == "no text or messages"


def test_F51_a_line_of_20_MB_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b'{"text": "' + b"x" * 20_000_000 + b'"}\n{"text": "next"}\n')
    assert [len(text or "") for text in texts(path)] == [20_000_000, 4]


def test_D05_unknown_columns_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "x", "id": 3}')
    rejected = only(path)
    assert isinstance(rejected, Rejected)
    assert rejected.detail == "keys: body, id"


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_F51_every_line_of_a_file_is_a_record_or_rejected_or_blank(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    (source,) = find([__file__])
    source = Source("x.jsonl", source.path, source.size, stamp=source.stamp)
    chunks = iter([b"\n".join(lines)])
    found = [i for i in READERS[".jsonl"](source, chunks) if i is not None]
    rows = sum(1 for n, line in enumerate(lines) if _strip_bom(n, line).strip())
    assert len(found) == max(rows, 1)


def _strip_bom(number: int, line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
