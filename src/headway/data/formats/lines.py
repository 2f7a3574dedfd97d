"""Bytes -> lines, and the lines that belong to a part of a file."""

import codecs
import itertools
from collections.abc import Generator
from io import FileIO

from headway.data.sources.find import check_unchanged
from headway.data.sources.source import Chunks, Source, Span

LONGEST_LINE = 64 << 20  # bytes of a row that are held; a longer one is rejected
_SHOWN_BYTES = 80
_CHUNK_BYTES = 1 << 20
_SCAN_BYTES = 1 << 14


class Overlong(bytes):
    """The beginning of a line that is longer than `LONGEST_LINE`."""


def lines(pieces: Chunks) -> Generator[bytes]:
    """Whole lines without their ends, the last one also where it has none.

    A long line is copied once; of one that is too long only the beginning is kept.
    """
    begun: list[bytes] = []
    num_begun = 0
    for chunk in pieces:
        first, *rest = chunk.split(b"\n")
        num_begun += len(first)
        if num_begun <= LONGEST_LINE:
            begun.append(first)
        else:
            begun = [b"".join(begun)[:_SHOWN_BYTES] or first[:_SHOWN_BYTES]]
        if rest:
            yield _whole(begun, num_begun)
            yield from rest[:-1]
            begun, num_begun = [rest[-1]], len(rest[-1])
    if num_begun:
        yield _whole(begun, num_begun)


def without_bom(pieces: Chunks) -> Chunks:
    """What follows a byte order mark, where there is one."""
    head = b""
    while len(head) < len(codecs.BOM_UTF8) and (chunk := next(pieces, None)) is not None:
        head += chunk
    return itertools.chain([head.removeprefix(codecs.BOM_UTF8)], pieces)


def _whole(parts: list[bytes], num_bytes: int) -> bytes:
    line = b"".join(parts)
    return line if num_bytes <= LONGEST_LINE else Overlong(line)


# ---- parts of a file -------------------------------------------------------------------------


def whole_lines(source: Source, span: Span) -> Span:
    """The bytes of the lines that begin in a span; spans that meet give spans that meet.

    Raises:
        OSError: the file cannot be read.
    """
    assert source.path is not None
    with source.path.open("rb", buffering=0) as file:
        begin = _line_begin(file, span.begin, span.end)
        if begin >= span.end:  # one line fills it, and belongs to the span where it begins
            return Span(span.end, span.end)
        return Span(begin, _line_begin(file, span.end, source.size))


def _line_begin(file: FileIO, at: int, end: int) -> int:
    """Where the first line begins that does not begin before `at`; `end` if none does."""
    if at == 0:
        return 0
    file.seek(at - 1)
    while at < end and (scanned := file.read(_SCAN_BYTES)):
        newline = scanned.find(b"\n")
        if newline >= 0:
            return min(at + newline, end)
        at += len(scanned)
    return end


def of_span(source: Source, span: Span) -> Chunks:
    """The bytes [begin, end) of a file on this machine.

    Raises:
        ComeBack: the file is not what it was when it was found.
        OSError: it cannot be read.
    """
    assert source.path is not None
    with source.path.open("rb", buffering=0) as file:
        file.seek(span.begin)
        left = span.end - span.begin
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        check_unchanged(source, file)
