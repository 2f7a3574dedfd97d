"""The bytes of a file become documents and rows; what is none is told with its place."""

import bz2
import gzip
import json
import lzma
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.base.errors import ComeBack, DataRefused
from headway.base.pulse import Pulse
from headway.data.formats.detect import Item, line_format, read
from headway.data.formats.records import Record, Rejected, Skipped
from headway.data.sources.find import find_sources


def items(*names: object) -> list[Item]:
    """Everything that is read from the named sources."""
    sources = find_sources([str(name) for name in names])
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
        (b"abc\0def", "binary", "a zero byte in the first 8,192 bytes"),
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
    for source in find_sources([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")]):
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


def test_D07_a_type_that_drifts_costs_its_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": ["a"]}\n{"text": 3}\n{"text": "b", "n": "x"}\n')
    assert [getattr(i, "reason", "") for i in items(path)] == [
        "",
        "text is not a string",
        "text is not a string",
        "",
    ]


# ---- by content ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.json", "rows.txt", "rows"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_known_by_its_content(
    name: str, indent: int | None, tmp_path: Path
) -> None:
    rows = [{"text": "one"}, {"text": "two [}"}]
    (tmp_path / name).write_text(json.dumps(rows, indent=indent), encoding="utf-8-sig")
    assert texts(tmp_path / name) == ["one", "two [}"]


def test_objects_over_several_lines_are_rows_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n "text": "one"\n}\n{\n "text": "two"\n}\n')
    assert [(i.line, i.text) for i in items(tmp_path / "a.json") if isinstance(i, Record)] == [
        (1, "one"),
        (4, "two"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[1] Smith et al.",
        "[link](http://x)",
        "{% if x %}yes{% endif %}",
        "{ not json",
        "[[wiki]] x",
    ],
)
def test_a_text_may_begin_with_a_bracket(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(text)
    assert texts(tmp_path / "a.md") == [text]


def test_a_named_json_file_is_never_a_text(tmp_path: Path) -> None:
    for content in ("{broken", "words", '["a", "b"]', '[{"x": 1}]'):
        (tmp_path / "a.json").write_text(content)
        try:
            assert all(isinstance(item, Rejected) for item in items(tmp_path / "a.json"))
        except DataRefused:
            assert content == "{broken"


def test_every_format_is_read_through_every_compression(tmp_path: Path) -> None:
    contents = {
        "a.jsonl": b'{"text": "one"}\n',
        "a.json": b'[{"text": "one"}]',
        "a.csv": b"text\none\n",
        "a.tsv": b"text\none\n",
        "a.txt": b"one",
    }
    packs = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    packs[".zst"] = zstandard.ZstdCompressor().compress
    for name, content in contents.items():
        for suffix, pack in packs.items():
            (tmp_path / (name + suffix)).write_bytes(pack(content))
            assert texts(tmp_path / (name + suffix)) == ["one"], name + suffix


def test_F23_a_compressed_file_of_nothing_is_told_apart(tmp_path: Path) -> None:
    for content, reason in ((b"", "blank"), (b"\n\n", "blank")):
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content))
        rejected = only(tmp_path / "a.jsonl.gz")
        assert isinstance(rejected, Rejected)
        assert rejected.reason == reason
    (tmp_path / "a.jsonl.gz").write_bytes(b"")
    assert only(tmp_path / "a.jsonl.gz") == Rejected(
        str(tmp_path / "a.jsonl.gz"), 1, "empty", "0 B"
    )


def test_D10_a_compressed_or_tabular_file_that_changes_is_to_be_tried_again(
    tmp_path: Path,
) -> None:
    pq.write_table(pa.table({"text": ["a"] * 9}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 9))
    (tmp_path / "a.csv").write_text("text\n" + "a\n" * 9)
    for source in find_sources([str(tmp_path)]):
        assert source.path is not None
        os.utime(source.path, (1, 1))
        with pytest.raises(ComeBack, match="changed while it was being read"):
            list(read(source, lambda _: None, Pulse()))


# ---- any bytes -------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(b'{"text": "a"}', b'{"te', b'"', b"[", b"]", b"{", b"}", b",", b"\n", b"\r\n", b"\\"),
        *(b"\xef\xbb\xbf", b"\xff", b"\xe2\x82", b"\0", b" ", b"text", b"text,id\n", b"a,b\n"),
        *(b"[" * 2000, b"x" * 300, b'{"text": "a", "text": "b"}', b'{"messages": []}'),
    ]
)
NAMES = [
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.tsv",
    "a.txt",
    "a",
    "a.parquet",
    "a.jsonl.gz",
    "a.csv.zst",
]
PACK = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    content=st.lists(PIECES | st.binary(max_size=9), max_size=12).map(b"".join),
    found=st.booleans(),
    cut=st.integers(0, 60),
)
def test_F51_any_file_is_read_the_same_twice_or_refused_and_every_row_has_its_place(
    name: str, content: bytes, found: bool, cut: int, tmp_path: Path
) -> None:
    packed = PACK.get(Path(name).suffix, bytes)(content)
    stored = packed[: len(packed) - cut] if "." in name[5:] and cut > 50 else packed
    (tmp_path / name).write_bytes(stored)
    (source,) = find_sources([str(tmp_path / name)])
    source = replace(source, found=found)
    outcomes: list[object] = []
    for _ in range(2):
        told: list[bytes] = []
        try:
            outcomes.append(list(read(source, told.append, Pulse())))
        except DataRefused as refused:
            outcomes.append(refused.what)
        assert stored.startswith(b"".join(told))
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0], list):
        made = outcomes[0]
        assert made
        assert all(i.file == source.name for i in made if i is not None)
        assert all(i.line >= 1 for i in made if isinstance(i, Record | Rejected))
    if name == "a.jsonl" and line_format(source) == "jsonl" and not isinstance(made[0], Skipped):
        rows = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        full = [number for number, line in enumerate(rows, 1) if line.strip()]
        assert list(dict.fromkeys(i.line for i in made)) == (full or [1])


# ---- what is no file -------------------------------------------------------------------------


def test_F59_a_folder_is_read_without_pipes_devices_and_links_out_of_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "sub", outside):
        folder.mkdir(parents=True)
    (outside / "secret.txt").write_text("secret")
    (inside / "sub" / "a.txt").write_text("one")
    (inside / "near.txt").symlink_to("sub/a.txt")
    (inside / "far.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "self").symlink_to(inside)
    (inside / "nowhere.txt").symlink_to("gone.txt")
    (inside / "null").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe.txt")
    assert texts(inside) == ["one", "one"]
