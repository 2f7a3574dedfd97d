"""Plain text reader: one document per file, long files in parts."""

import codecs
import itertools
from collections.abc import Iterator

from headway.base.units import count, size
from headway.data.formats.records import Item, Record, Rejected, RejectReason, unusable_file
from headway.data.sources.source import Chunks, Source

LONGEST_WHOLE = 16 << 20  # bytes; a longer file is read in parts
PART_BYTES = 1 << 20
_SNIFF_BYTES = 8192
_BOM = codecs.BOM_UTF8


def read_text(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One document; a file longer than `LONGEST_WHOLE` comes in parts."""
    held: list[bytes] = []
    num_bytes = 0
    for chunk in pieces:
        held.append(chunk)
        num_bytes += len(chunk)
        if is_binary(held[0]) or num_bytes > LONGEST_WHOLE:
            break
    whole = b"".join(held)
    if is_binary(whole):
        yield unusable_file(
            source, RejectReason.BINARY, f"a zero byte in the first {count(_SNIFF_BYTES)} bytes"
        )
    elif num_bytes > LONGEST_WHOLE and not whole.strip():
        yield unusable_file(source, RejectReason.BLANK, f"the first {size(num_bytes)}")
    elif num_bytes > LONGEST_WHOLE:
        yield from read_parts(source, itertools.chain([whole], pieces), 0)
    elif whole.removeprefix(_BOM).strip():
        yield _document(source, whole)


def is_binary(head: bytes) -> bool:
    """Whether a file with this beginning is binary."""
    return b"\0" in head[:_SNIFF_BYTES]


def _document(source: Source, content: bytes) -> Item:
    try:
        text = _decode(content)
    except UnicodeDecodeError as error:
        place = _describe_byte(content, error.start, 0)
        return unusable_file(source, RejectReason.NOT_UTF8, place)
    return Record(source.name, 1, text=text)


def read_parts(source: Source, pieces: Chunks, begin: int, *, ends: bool = True) -> Iterator[Item]:
    """Parts of about a megabyte, cut at line ends, or between characters in a very long line.

    Args:
        source: where the text is from.
        pieces: whole lines of it.
        begin: offset of the first byte in the file.
        ends: whether the pieces reach the end of the file.
    """
    line, held = 1, b""
    for chunk in pieces:
        held += chunk
        while len(held) > PART_BYTES:
            part, held = _cut(held)
            yield _part(source, line, part, begin, ends=False)
            line += part.count(b"\n")
            begin += len(part)
    if held:
        yield _part(source, line, held, begin, ends=ends)


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """A part, and the rest; the cut depends on the text alone, not on the pieces."""
    cut = text.rfind(b"\n", 0, PART_BYTES) + 1
    if not cut:
        cut = PART_BYTES
        while cut > PART_BYTES - 4 and (_continues(text[cut]) or text[cut - 1 : cut] == b"\r"):
            cut -= 1
    return text[:cut], text[cut:]


def _continues(byte: int) -> bool:
    """Whether a byte of UTF-8 continues a character."""
    return byte & 0xC0 == 0x80


def _part(source: Source, line: int, part: bytes, begin: int, *, ends: bool) -> Record | Rejected:
    try:
        text = _decode(part, is_first=begin == 0)
        return Record(source.name, line, text=text, ends=ends, begins=begin == 0)
    except UnicodeDecodeError as error:
        place = _describe_byte(part, error.start, begin)
        return Rejected(source.name, line, RejectReason.NOT_UTF8, place)


def _decode(content: bytes, *, is_first: bool = True) -> str:
    content = content.removeprefix(_BOM) if is_first else content
    return content.decode().replace("\r\n", "\n")


def _describe_byte(content: bytes, at: int, begin: int) -> str:
    return f"byte {content[at]:#04x} at offset {count(begin + at)}"
