"""Lines of a byte stream, lines of a span of a file, and line numbers of byte offsets."""

import bisect
import codecs
import itertools
from collections.abc import Generator
from dataclasses import replace
from io import FileIO
from pathlib import Path

from headway.base.pulse import Pulse
from headway.data.formats.records import Rejected
from headway.data.sources.find import check_unchanged, open_local
from headway.data.sources.source import Chunks, Source, Span

LONGEST_LINE = 64 << 20  # bytes; a longer row is rejected
_SHOWN_BYTES = 80
_CHUNK_BYTES = 1 << 20
_SCAN_BYTES = 1 << 14
_COUNT_BYTES = 1 << 22


class Overlong(bytes):
    """The beginning of a line that is longer than `LONGEST_LINE`."""


def lines(pieces: Chunks) -> Generator[bytes]:
    """Whole lines without their line ends; the last one may lack a line end.

    A long line is copied once. Only the beginning of a line that is too long is kept.
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


def strip_bom(pieces: Chunks) -> Chunks:
    """The content without its byte order mark, if it has one."""
    head = b""
    while len(head) < len(codecs.BOM_UTF8) and (chunk := next(pieces, None)) is not None:
        head += chunk
    return itertools.chain([head.removeprefix(codecs.BOM_UTF8)], pieces)


def _whole(parts: list[bytes], num_bytes: int) -> bytes:
    line = b"".join(parts)
    return line if num_bytes <= LONGEST_LINE else Overlong(line)


# ---- lines of a span -------------------------------------------------------------------------


def whole_lines(source: Source, span: Span, pulse: Pulse, longest: int | None = None) -> Span:
    """The bytes of the lines that begin in a span; adjacent spans give adjacent results.

    Args:
        source: a local file.
        span: of it.
        pulse: beats while the end of a long line is looked for.
        longest: bytes of a line beyond which its end is not looked for; None: no limit.

    Raises:
        OSError: the file cannot be read.
    """
    with open_local(source) as file:
        begin = _line_begin(file, span.begin, span.end, pulse)
        if begin >= span.end:  # one line fills the span, and belongs to the span it begins in
            return Span(span.end, span.end)
        limit = source.size if longest is None else min(source.size, span.end + longest)
        return Span(begin, _line_begin(file, span.end, limit, pulse))


def _line_begin(file: FileIO, at: int, end: int, pulse: Pulse) -> int:
    """Where the first line at or after `at` begins; `end` if there is none."""
    if at == 0:
        return 0
    file.seek(at - 1)
    while at < end and (scanned := file.read(_SCAN_BYTES)):
        newline = scanned.find(b"\n")
        if newline >= 0:
            return min(at + newline, end)
        at += len(scanned)
        pulse.beat_if_due()
    return end


def read_span(source: Source, span: Span) -> Chunks:
    """The bytes [begin, end) of a local file.

    Raises:
        ComeBack: the file has changed since it was found.
        OSError: it cannot be read.
    """
    with open_local(source) as file:
        file.seek(span.begin)
        left = span.end - span.begin
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        check_unchanged(source, file)


# ---- line numbers ----------------------------------------------------------------------------


class LineNumbers:
    """Line numbers of byte offsets, counted from the nearest known offset.

    Args:
        pulse: beats while lines are counted.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._known: dict[Path, list[tuple[int, int]]] = {}

    def in_file(self, rejected: Rejected, source: Source, span: Span | None) -> Rejected:
        """A rejected row with its line in the file instead of its line in the span."""
        if span is None or not span.begin or source.path is None:
            return rejected
        known = self._known.setdefault(source.path, [(0, 0)])
        return replace(rejected, line=rejected.line + self._before(source, known, span.begin))

    def _before(self, source: Source, known: list[tuple[int, int]], offset: int) -> int:
        """Lines that begin in the first `offset` bytes."""
        nearest = bisect.bisect_right(known, (offset, offset)) - 1
        at, lines = known[nearest]
        if at == offset:
            return lines
        with open_local(source) as file:
            # Line 1 begins with the file, and one more after each line end: hence one byte less.
            file.seek(max(at - 1, 0))
            left = offset - 1 - file.tell()
            lines += at == 0
            while left > 0:
                piece = file.read(min(left, _COUNT_BYTES))
                if not piece:
                    break
                lines += piece.count(b"\n")
                left -= len(piece)
                self._pulse.beat_if_due()
        known.insert(nearest + 1, (offset, lines))
        return lines
