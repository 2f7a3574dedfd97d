"""A text file is one document, and a long one comes in parts that add up to it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.pulse import Pulse
from headway.data.formats import text as text_files
from headway.data.formats.detect import read
from headway.data.formats.records import Item, Record, Rejected, RejectReason, Skipped
from headway.data.formats.text import is_binary, read_parts, read_text
from headway.data.sources.find import find_sources
from headway.data.sources.source import Source

NAMED = Source("a.txt", None)


def found(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    (source,) = find_sources([str(path)])
    return source


def texts(items: Iterator[Item]) -> list[str | None]:
    return [item.text for item in items if isinstance(item, Record)]


def test_a_document_is_joined_from_its_pieces() -> None:
    content = b"\xef\xbb\xbfcaf\xc3\xa9\r\nau lait"
    pieces = [content[at : at + 1] for at in range(len(content))]
    assert texts(read_text(NAMED, iter(pieces))) == ["caf\u00e9\nau lait"]


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf \n"])
def test_a_blank_file_gives_nothing(content: bytes) -> None:
    assert list(read_text(NAMED, iter([content]))) == []


def test_a_binary_file_is_not_read_to_its_end() -> None:
    pieces = iter([b"\0" * 9, b"never read"])
    (rejected,) = read_text(NAMED, pieces)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.BINARY
    assert next(pieces) == b"never read"


def test_a_file_that_begins_with_megabytes_of_blanks_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_files, "LONGEST_WHOLE", 10)
    pieces = iter([b" " * 11, b"never read"])
    (skipped,) = read_text(Source("a.txt", None, found=True), pieces)
    assert isinstance(skipped, Skipped)
    assert skipped.reason is RejectReason.BLANK
    assert next(pieces) == b"never read"


def test_a_zero_byte_far_into_a_file_does_not_make_it_binary() -> None:
    assert is_binary(b"a" * 8191 + b"\0")
    assert not is_binary(b"a" * 8192 + b"\0")


@given(st.text(alphabet="a\n\u20ac", max_size=80), st.lists(st.integers(0, 240), max_size=5))
def test_the_cuts_depend_on_the_text_and_not_on_its_pieces(text: str, at: list[int]) -> None:
    content = text.encode()
    edges = [0, *sorted(min(one, len(content)) for one in at), len(content)]
    pieces = [content[a:b] for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "PART_BYTES", 16)
        whole = list(read_parts(NAMED, iter([content]), 0))
        assert list(read_parts(NAMED, iter(pieces), 0)) == whole
    assert "".join(one or "" for one in texts(iter(whole))) == text


def test_parts_from_the_middle_of_a_file_neither_begin_nor_end_its_document() -> None:
    (part,) = read_parts(NAMED, iter([b"\xef\xbb\xbfmiddle\n"]), 100, ends=False)
    assert part == Record("a.txt", 1, text="\ufeffmiddle\n", begins=False, ends=False)


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize(
    "text", ["\u00e9" * 30, "\u20ac" * 30, "\U0001f600" * 30, "\r\n".join("ab") * 9]
)
def test_an_endless_line_is_cut_between_characters(
    text: str, shift: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "LONGEST_WHOLE", 10)
    monkeypatch.setattr(text_files, "PART_BYTES", 16)
    text = "x" * (shift + 13) + text
    source = found(tmp_path / "a.txt", text.encode())
    records = [r for r in read(source, lambda _: None, Pulse()) if isinstance(r, Record)]
    assert "".join(r.text or "" for r in records) == text.replace("\r\n", "\n")
    assert len(records) > 3


def test_a_part_that_is_not_utf8_is_rejected_with_its_place_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "LONGEST_WHOLE", 10)
    monkeypatch.setattr(text_files, "PART_BYTES", 16)
    source = found(tmp_path / "a.txt", b"a line of text\n" * 2 + b"caf\xe9\n" + b"the last line\n")
    made = list(read(source, lambda _: None, Pulse()))
    assert [type(item) for item in made] == [Record, Record, Rejected, Record]
    assert made[2] == Rejected(source.name, 3, RejectReason.NOT_UTF8, "byte 0xe9 at offset 33")
