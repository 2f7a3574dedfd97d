"""UTF-16 and UTF-32 are read as what they are, with a mark or without, in every format."""

import gzip
import json
from pathlib import Path

import pytest

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.encodings import EncodingError, to_utf8, wide_encoding
from headway.data.formats.records import Item, Record, Skipped
from headway.data.sources.find import find_sources

WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
TEXTS = ["caf\u00e9 \u65e5\u672c \U0001f600", "two"]
CONTENTS = {
    "a.txt": TEXTS[0],
    "a.jsonl": "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in TEXTS),
    "a.json": json.dumps([{"text": text} for text in TEXTS], ensure_ascii=False, indent=1),
    "a.csv": "text,id\r\n" + "".join(f'"{text}",1\r\n' for text in TEXTS),
    "a.tsv": "text\tid\n" + "".join(f"{text}\t1\n" for text in TEXTS),
    "a": "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS),
}


def encoded(text: str, encoding: str) -> bytes:
    if encoding.startswith("marked "):
        return f"\ufeff{text}".encode(encoding.removeprefix("marked "))
    return text.encode(encoding)


def items(path: Path) -> list[Item]:
    sources = find_sources([str(path)])
    return [item for source in sources for item in read(source, lambda _: None, Pulse())]


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32", *(f"marked {one}" for one in WIDE if one.endswith("e"))]
)
def test_every_format_is_read_in_every_encoding_that_is_marked(
    name: str, encoding: str, tmp_path: Path
) -> None:
    content = encoded(CONTENTS[name], encoding)
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        texts = [item.text for item in items(path) if isinstance(item, Record)]
        assert texts == (TEXTS[:1] if name == "a.txt" else TEXTS)


@pytest.mark.parametrize("encoding", [one for one in WIDE if one.endswith("e")])
def test_an_encoding_is_known_without_its_mark_if_it_begins_with_ascii(encoding: str) -> None:
    assert wide_encoding('{"text": "words of ASCII, é"}'.encode(encoding)) == encoding
    assert wide_encoding("text\r\n".encode(encoding)) == encoding


@pytest.mark.parametrize(
    "head",
    [b"", b"text", "\ufefftext".encode(), b"\0\0\0\0\0\0\0\0", b"a\0", b"abc\0def", b"a\0\x01\0",
     b"PAR1\x15\0", b"\x7fELF\x02\x01\x01\0", b"\x89PNG\r\n\x1a\n\0\0\0\r"],
)  # fmt: skip
def test_what_is_no_wide_text_is_left_as_it_is(head: bytes) -> None:
    assert wide_encoding(head) == ""
    assert b"".join(to_utf8(iter([head]))) == head


@pytest.mark.parametrize("piece", [1, 2, 3, 5])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_character_may_be_in_two_pieces(encoding: str, piece: int) -> None:
    content = TEXTS[0].encode(encoding)
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    assert b"".join(to_utf8(pieces)).decode() == TEXTS[0]


@pytest.mark.parametrize(
    "content",
    ["text".encode("utf-16")[:-1], "text".encode("utf-32")[:-2], b"\xff\xfea\0\0\xd8b\0"],
    ids=["cut", "cut 32", "half a pair"],
)
def test_what_does_not_go_on_as_it_began_is_told_with_the_place(content: bytes) -> None:
    with pytest.raises(EncodingError, match=r"begins as UTF-\d\d and is not before byte \d"):
        list(to_utf8(iter([content])))


def test_such_a_file_is_refused_if_it_is_named_and_passed_over_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16")[:-1])
    with pytest.raises(DataRefused, match="begins as UTF-16"):
        items(tmp_path / "a.txt")
    (skipped,) = items(tmp_path)
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "not UTF-8"
