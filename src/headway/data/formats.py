"""What the bytes of a source mean: records, one reader per format.

A format is one function and its line in `READERS`; the shapes of a row of JSONL are in
`records.py`.
"""

import codecs
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from headway.base.pulse import Pulse
from headway.base.units import count, plural, size
from headway.data.records import Record, Rejected, record_of
from headway.data.source import Chunks, Source
from headway.data.sources import chunks, unreadable

# Why a whole file may be unusable, to be read after "is".
WHOLE_FILE = ("empty", "blank", "binary", "not UTF-8")
_SNIFF_BYTES = 8192
_BOM = codecs.BOM_UTF8
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BLANK = _BOM + b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that holds no text, so it was passed over whole."""

    file: str
    reason: str


# None: nothing more has arrived yet, and asking again waits.
Item = Record | Rejected | Skipped | None


def read(source: Source, on_bytes: Callable[[bytes], None], pulse: Pulse) -> Iterator[Item]:
    """The records of one source, in order, as they arrive.

    Args:
        source: from `find`.
        on_bytes: given every piece of the content once, as it is read.
        pulse: every wait for a stream is entered here by name.

    Raises:
        UsageError: a named file cannot be opened or read.
        ComeBack: the file changed while it was being read.
    """
    reader = READERS.get(Path(source.name).suffix, _read_by_content)
    try:
        yield from reader(source, _told(chunks(source, pulse), on_bytes))
    except OSError as error:
        if not source.found:
            raise unreadable(source.name, error) from error
        yield Skipped(source.name, "unreadable")


def _read_by_content(source: Source, pieces: Chunks) -> Iterator[Item]:
    """JSONL when the first line with anything on it is a JSON object, else text.

    In a folder the object must be a record too: a program's source has JSON in it as well.
    """
    head, first = bytearray(), b""
    for chunk in pieces:
        if chunk is None:
            yield None
            continue
        head += chunk
        rest = chunk if first else chunk.lstrip(_BLANK)
        first = first or rest[:1]
        if first and (first != b"{" or b"\n" in rest):
            break
    line = bytes(head).lstrip(_BLANK).partition(b"\n")[0]
    row = record_of(source.name, 1, line) if first == b"{" else None
    is_jsonl = isinstance(row, Record) or (row and row.reason != "not JSON" and not source.found)
    reader = _read_jsonl if is_jsonl else _read_text
    yield from reader(source, _joined(bytes(head), pieces))


def _joined(head: bytes, rest: Chunks) -> Chunks:
    yield head
    yield from rest


def _told(pieces: Chunks, on_bytes: Callable[[bytes], None]) -> Chunks:
    for chunk in pieces:
        if chunk is not None:
            on_bytes(chunk)
        yield chunk


def _unusable(source: Source, reason: str, detail: str = "") -> Skipped | Rejected:
    if source.found:
        return Skipped(source.name, reason)
    return Rejected(source.name, 1, reason, detail)


def _read_text(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One document per file."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts: list[str] = []
    num_bytes = 0
    for chunk in pieces:
        if chunk is None:
            yield None
            continue
        sniffed = chunk[: max(0, _SNIFF_BYTES - num_bytes)]
        if b"\0" in sniffed and not sniffed.startswith(_UTF16_BOMS):
            yield _unusable(source, "binary", f"a zero byte in the first {count(_SNIFF_BYTES)}")
            return
        before = num_bytes - len(decoder.getstate()[0])
        try:
            parts.append(decoder.decode(chunk))
        except UnicodeDecodeError as error:
            yield _not_utf8(source, error.object[error.start], before + error.start)
            return
        num_bytes += len(chunk)
    if unfinished := decoder.getstate()[0]:
        yield _not_utf8(source, unfinished[0], num_bytes - len(unfinished))
        return
    text = "".join(parts).removeprefix("\ufeff").replace("\r\n", "\n")
    if text.strip():
        yield Record(source.name, 1, text=text)
    else:
        yield _unusable(source, "blank" if text else "empty", size(num_bytes))


def _not_utf8(source: Source, byte: int, offset: int) -> Skipped | Rejected:
    return _unusable(source, "not UTF-8", f"byte {byte:#04x} at offset {count(offset)}")


def _read_jsonl(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per line; blank lines are none."""
    line = num_rows = 0
    for raw in _lines(pieces):
        if raw is None:
            yield None
            continue
        line += 1
        row = raw.removeprefix(_BOM) if line == 1 else raw
        if row.strip():
            num_rows += 1
            yield record_of(source.name, line, row)
    if not num_rows:
        yield _unusable(source, "blank" if line else "empty", plural(line, "line"))


def _lines(pieces: Chunks) -> Generator[bytes | None]:
    """Whole lines, the last one also without its end. A long line is copied once."""
    begun: list[bytes] = []
    for chunk in pieces:
        if chunk is None:
            yield None
            continue
        first, *rest = chunk.split(b"\n")
        begun.append(first)
        if rest:
            yield b"".join(begun)
            yield from rest[:-1]
            begun = [rest[-1]]
    if any(begun):
        yield b"".join(begun)


# By the end of the name; all others by their content.
READERS: dict[str, Callable[[Source, Chunks], Iterator[Item]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}
