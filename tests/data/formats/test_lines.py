"""Bytes become lines; the parts of a file tile it without loss or repetition."""

import itertools
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.errors import ComeBack
from headway.base.pulse import Pulse
from headway.data.formats import lines as lines_module
from headway.data.formats import text as text_files
from headway.data.formats.detect import read
from headway.data.formats.lines import (
    LineNumbers,
    Overlong,
    lines,
    read_span,
    strip_bom,
    whole_lines,
)
from headway.data.formats.records import Record, Rejected, RejectReason
from headway.data.formats.splits import can_split
from headway.data.sources.find import find_sources
from headway.data.sources.source import Source, Span

CONTENT = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"\xc3\xa9", b" "]), max_size=60)
CUTS = st.lists(st.integers(0, 120), max_size=6)


def found(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    (source,) = find_sources([str(path)])
    return source


def spans(size: int, cuts: list[int]) -> list[Span]:
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    return [Span(a, b) for a, b in itertools.pairwise(edges) if a < b]


def joined(pieces: object) -> bytes:
    return b"".join(pieces)  # type: ignore[arg-type]


@given(CONTENT, CUTS)
def test_lines_are_the_same_however_they_arrive(parts: list[bytes], cuts: list[int]) -> None:
    content = b"".join(parts)
    pieces = [content[s.begin : s.end] for s in spans(len(content), cuts)]
    expected = content.split(b"\n")
    assert list(lines(iter(pieces))) == (expected if expected[-1] else expected[:-1])


@given(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"]), CUTS)
def test_a_byte_order_mark_goes_whole_or_not_at_all(begin: bytes, cuts: list[int]) -> None:
    content = begin + (b"x" if begin else b"")
    pieces = [content[s.begin : s.end] for s in spans(len(content), cuts)]
    assert joined(strip_bom(iter(pieces))) == content.removeprefix(b"\xef\xbb\xbf")


def test_F51_of_a_line_that_is_too_long_only_the_beginning_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 1000)
    pieces = [b"one\n" + b"x" * 600, b"x" * 400, b"x" * 9_000, b"x\ntwo\n", b"y" * 1000, b"\nz"]
    one, long, two, fits, last = lines(iter(pieces))
    assert (one, two, fits, last) == (b"one", b"two", b"y" * 1000, b"z")
    assert isinstance(long, Overlong)
    assert bytes(long) == b"x" * 80
    assert not isinstance(fits, Overlong)


@given(CONTENT, CUTS)
def test_spans_tile_a_file_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], cuts: list[int]
) -> None:
    content = b"".join(parts)
    source = found(tmp_path_factory.mktemp("spans") / "a.txt", content)
    tiles = [whole_lines(source, span, Pulse()) for span in spans(len(content), cuts)]
    pieces = [joined(read_span(source, tile)) for tile in tiles if tile.begin < tile.end]
    assert b"".join(pieces) == content
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    for span, tile in zip(spans(len(content), cuts), tiles, strict=True):
        assert tile.begin == tile.end or span.begin <= tile.begin < span.end


def test_one_endless_line_is_scanned_once_and_not_by_each_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = found(tmp_path / "a.txt", b"x" * 1_000_000 + b"\nlast")
    scanned: list[int] = []

    class Counted(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read = super().read(-1 if size is None else size)
            scanned.append(len(read))
            return read

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Counted(path))
    cuts = list(range(0, 1_000_000, 50_000))
    tiles = [whole_lines(source, span, Pulse()) for span in spans(source.size, cuts)]
    assert [t for t in tiles if t.begin < t.end] == [Span(0, 1_000_001), Span(1_000_001, 1_000_005)]
    assert sum(scanned) < 2_500_000


def test_looking_for_the_end_of_a_line_and_counting_lines_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.base.pulse._LOOK_S", 0.0)
    monkeypatch.setattr(lines_module, "_COUNT_BYTES", 1 << 14)
    source = found(tmp_path / "a.txt", b"x" * 1_000_000 + b"\nlast")
    beats: list[int] = []

    class Counted(Pulse):
        def beat(self) -> None:
            super().beat()
            beats.append(1)

    pulse = Counted()
    beats.clear()
    assert whole_lines(source, Span(0, 10), pulse) == Span(0, 1_000_001)
    assert len(beats) >= 60  # one per 16 kB
    beats.clear()
    rejected = Rejected(source.name, 1, RejectReason.NOT_JSON)
    assert LineNumbers(pulse).in_file(rejected, source, Span(1_000_001, 1_000_005)).line == 2
    assert len(beats) >= 60


def test_D10_a_span_of_a_file_that_changed_is_to_be_tried_again(tmp_path: Path) -> None:
    source = found(tmp_path / "a.jsonl", b'{"text": "one"}\n' * 10)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"text": "more"}\n')
    with pytest.raises(ComeBack, match="changed while it was being read"):
        list(read(source, lambda _: None, Pulse(), span=Span(0, 50)))


# ---- through the reader ----------------------------------------------------------------------

ROW = st.sampled_from(
    [b'{"text": "a"}', b"", b"  ", b"{bad", b"\xef\xbb\xbf{}", b'{"text": "b"}\r', b"\xff"]
)


@given(st.lists(ROW, min_size=1, max_size=12), CUTS, st.booleans())
def test_rows_of_spans_are_the_rows_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], cuts: list[int], ends: bool
) -> None:
    content = b"\n".join(rows) + (b"\n" if ends else b"")
    source = found(tmp_path_factory.mktemp("rows") / "a.jsonl", content)
    assert can_split(source)
    told: list[bytes] = []
    apart: list[Record | Rejected] = []
    for span in spans(len(content), cuts):
        before = b"".join(told).count(b"\n")
        for item in read(source, told.append, Pulse(), span=span):
            assert isinstance(item, Record | Rejected)
            apart.append(item)
            assert item.line + before <= content.count(b"\n") + 1
    whole = [i for i in read(source, lambda _: None, Pulse()) if i is not None]
    blank = not content.strip(b"\xef\xbb\xbf \r\n")
    kept = [(getattr(i, "text", None), getattr(i, "reason", "")) for i in apart]
    assert kept == [
        (getattr(i, "text", None), getattr(i, "reason", "")) for i in (() if blank else whole)
    ]
    assert b"".join(told) == content


@given(CONTENT, CUTS)
def test_a_long_text_in_parts_is_the_text_wherever_spans_are_laid(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], cuts: list[int]
) -> None:
    content = b"\xef\xbb\xbfbegin " + b"".join(parts)
    path = tmp_path_factory.mktemp("parts") / "a.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "LONGEST_WHOLE", 10)
        patch.setattr("headway.data.formats.splits.LONGEST_WHOLE", 10)
        patch.setattr(text_files, "PART_BYTES", 16)
        source = found(path, content)
        assert can_split(source) == (len(content) > 10)
        for laid in ([Span(0, len(content))], spans(len(content), cuts), [None]):
            made = [r for s in laid for r in read(source, lambda _: None, Pulse(), span=s)]
            records = [r for r in made if isinstance(r, Record)]
            assert len(records) == len(made)
            text = "".join(r.text or "" for r in records)
            assert text == content.decode("utf-8-sig").replace("\r\n", "\n")
            if laid != [None] or len(content) > 10:
                assert [r.begins for r in records] == [True] + [False] * (len(records) - 1)
                assert [r.ends for r in records] == [False] * (len(records) - 1) + [True]
