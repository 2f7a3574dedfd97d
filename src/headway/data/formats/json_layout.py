"""JSON layout: a row per line, consecutive values, an array, or a list of rows inside an object.

It is found from the beginning of the content, and large files are read as they arrive.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from headway.base.units import count
from headway.data.formats.fields.turns import is_turn
from headway.data.formats.json import Scanner, read_json, read_jsonl, record_of, values
from headway.data.formats.lines import LONGEST_LINE, strip_bom
from headway.data.formats.outline import Outline, RowList, decode, has_known_fields
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    Skipped,
)
from headway.data.sources.source import Chunks, Source
from headway.data.sources.split_names import choose_split

_BLANK = b"\xef\xbb\xbf \t\r\n"
_DECODED_BYTES = 1 << 20  # a longer first line is scanned, not decoded
_OUTLINE_BYTES = 8 << 20  # of the beginning, in which lists of rows are looked for
_LOOKED_AT = 100  # lines that may be rows, after one that is none
_CUT_CELLS = "truncated_cells"  # in the answers of the Hub's server for the rows of a dataset


@dataclass(frozen=True)
class JsonLayout:
    """Where the rows of a file are.

    Attributes:
        kind: a row per line; consecutive values, or those of an array; in a list in an object.
        first: what the first row is read as.
        rows: the list in the object.
        beside: the other lists of rows before it.
    """

    kind: Literal["lines", "values", "inside"]
    first: Record | Rejected | None = None
    rows: RowList | None = None
    beside: tuple[RowList, ...] = ()


class SeveralListsError(Exception):
    """An object with several lists of rows, and nothing that says which to train on."""

    def __init__(self, lists: Sequence[RowList]) -> None:
        super().__init__()
        self.paths = [one.path for one in lists]


# ---- find ------------------------------------------------------------------------------------


class Head:
    """The beginning of some content, which can be read again.

    Args:
        pieces: the content.
        seen: the pieces that were read of it, in order; more are added.
    """

    def __init__(self, pieces: Chunks, seen: list[bytes]) -> None:
        self._pieces = pieces
        self._seen = seen

    def content(self, max_bytes: int = LONGEST_LINE) -> Chunks:
        """The content from its beginning, up to about `max_bytes`."""
        num_bytes = 0
        for chunk in list(self._seen):
            yield chunk
            num_bytes += len(chunk)
        while num_bytes < max_bytes and (chunk := next(self._pieces, None)) is not None:
            self._seen.append(chunk)
            yield chunk
            num_bytes += len(chunk)

    def first_byte(self) -> bytes:
        """The first byte that is not white space; b"" if there is none."""
        return next((first for c in self.content() if (first := c.lstrip(_BLANK)[:1])), b"")

    def first_line(self) -> tuple[bytes, bool]:
        """The first line that is not blank, up to a limit; whether that is all of it."""
        held = b""
        for chunk in self.content(_DECODED_BYTES):
            held = (held + chunk).lstrip(_BLANK)
            line, newline, _ = held.partition(b"\n")
            if newline:
                return line, True
        return held, len(held) < _DECODED_BYTES

    def first_value(self, max_bytes: int = LONGEST_LINE) -> bytes | None:
        """The first object, or the first element of an array; None if it is incomplete."""
        try:
            found = next(values(strip_bom(self.content(max_bytes))), None)
        except DamagedError:
            return None
        return found and found[1]

    def after(self, value: bytes, blank: bytes = _BLANK) -> bytes:
        """What follows a value, without blanks; b"" if nothing does."""
        held = b""
        for chunk in self.content():
            held += chunk
            if behind := held.partition(value)[2].lstrip(blank):
                return behind
        return b""


def find_layout(name: str, head: Head) -> JsonLayout | None:
    """The layout of content; None if it does not begin with JSON.

    Args:
        name: of the source.
        head: its content, as UTF-8.

    Raises:
        SeveralListsError: there are several lists of rows.
    """
    first = head.first_byte()
    if first not in (b"{", b"["):
        return None
    line, is_whole = head.first_line()
    value: Any = decode(line) if is_whole else None
    if isinstance(value, list):
        return _of_list(name, cast("list[Any]", value), line, head)
    if isinstance(value, dict):
        record = record_of(name, 1, line)
        return _inside(name, line, head, record) or JsonLayout("lines", record)
    return _of_array(name, head) if first == b"[" else _of_object(name, head, is_whole)


def _of_list(name: str, value: list[Any], line: bytes, head: Head) -> JsonLayout:
    """The first line is an array: all of the file, or a row that is a list of messages."""
    is_chat = bool(value) and is_turn(value[0]) and not has_known_fields(value[0])
    if is_chat or head.after(line):
        return JsonLayout("lines", record_of(name, 1, line))
    first = head.first_value()
    return JsonLayout("values", record_of(name, 1, first) if first else None)


def _of_array(name: str, head: Head) -> JsonLayout | None:
    """An array begins that the first line does not end."""
    first = head.first_value()
    if first is None:
        begun = b"".join(head.content(0)).splitlines()[:_LOOKED_AT]
        is_broken = any(isinstance(decode(line), dict) for line in begun)
        return None if is_broken else JsonLayout("values")
    if head.after(first)[:1] not in (b"", b",", b"]"):
        return None  # a broken line, and rows after it
    return JsonLayout("values", record_of(name, 1, first))


def _of_object(name: str, head: Head, is_whole: bool) -> JsonLayout | None:
    """An object begins, and the first line is not all of it, or not only it."""
    first = head.first_value(_OUTLINE_BYTES)
    if first is None:
        inside = _inside_begun(name, head)
        if inside:
            return inside
        first = head.first_value()
    if first is None:
        return None
    record = record_of(name, 1, first)
    if inside := _inside(name, first, head, record):
        return inside
    if b"\n" not in first:  # a long row, or something else on its line
        is_endless = not is_whole and head.after(first, b", \t")[:1] == b"{"
        return JsonLayout("values" if is_endless else "lines", record)
    # A broken line takes the lines after it for its own: then one of those is a row, or begins
    # like one where a value over several lines is indented.
    is_one = decode(first) is not None or not any(
        line.startswith(b"{") or isinstance(decode(line), dict) for line in first.splitlines()[1:]
    )
    return JsonLayout("values", record) if is_one else None


def _inside(name: str, whole: bytes, head: Head, record: Record | Rejected) -> JsonLayout | None:
    """The layout of an object that is all of the content and holds rows; else None.

    Args:
        name: of the source.
        whole: the object.
        head: the content.
        record: the object as a row. A row with known fields, but with something wrong in it, is
            still a row: objects in it that are none are its turns.
    """
    if isinstance(record, Record):
        return None
    outline = Outline()
    outline.feed(whole)
    is_row = record.reason is not RejectReason.NO_KNOWN_FIELDS
    objects = [one for one in outline.lists if one.has_objects and not is_row]
    rows = [one for one in outline.lists if one.has_rows] or (objects if len(objects) == 1 else [])
    if not rows or head.after(whole):
        return None
    begin = b"".join(strip_bom(head.content(0))).find(whole)
    moved = [RowList(one.path, one.begin + begin, one.first) for one in rows]
    return _of_rows(name, moved)


def _inside_begun(name: str, head: Head) -> JsonLayout | None:
    """The layout of an object that begins, if rows begin in it."""
    outline = Outline()
    begun = b"".join(strip_bom(head.content(_OUTLINE_BYTES)))
    outline.feed(begun)
    rows = [one for one in outline.lists if one.has_rows]
    if not rows or _follows(begun[rows[0].begin :], rows[0].first) not in (b"", b",", b"]"):
        return None  # a broken line, and rows after it
    return _of_rows(name, rows)


def _follows(content: bytes, value: bytes) -> bytes:
    """The first byte after a value that is not white space."""
    return content.partition(value)[2].lstrip(_BLANK)[:1]


def _of_rows(name: str, lists: Sequence[RowList]) -> JsonLayout:
    chosen = choose_split([one.path[-1] for one in lists])
    if chosen is None:
        raise SeveralListsError(lists)
    rows = lists[chosen]
    beside = tuple(one for one in lists[:chosen] if one is not rows)
    return JsonLayout("inside", _row_of(name, 1, rows.first, rows.inner), rows, beside)


# ---- read ------------------------------------------------------------------------------------


def read_layout(source: Source, pieces: Chunks, layout: JsonLayout) -> Iterator[Item]:
    """The rows of content in a layout.

    Raises:
        DamagedError: it ends before it should.
        SeveralListsError: another list of rows follows, and neither is named for training.
    """
    if layout.rows is not None:
        return _read_inside(source, strip_bom(pieces), layout.rows, layout.beside)
    reader = read_jsonl if layout.kind == "lines" else read_json
    return reader(source, strip_bom(pieces))


def _read_inside(
    source: Source, pieces: Chunks, rows: RowList, before: Sequence[RowList]
) -> Iterator[Item]:
    scanner, outline = Scanner(is_alone=True), Outline(rows.path)
    for chunk in _lines_before(pieces, rows.begin):
        for line, raw in scanner.feed(chunk):
            yield _row_of(source.name, line, raw, rows.inner)
        if scanner.is_over:
            break
    else:
        yield from (_row_of(source.name, *value, "") for value in scanner.finish())
    for chunk in itertools.chain([scanner.left_over], pieces):
        outline.feed(chunk)
    if not outline.is_closed:
        raise DamagedError(f"is truncated after {rows.name}, on line {count(scanner.line)}")
    beside = [*before, *(one for one in outline.lists if one.has_rows)]
    if beside and choose_split([rows.path[-1], *(one.path[-1] for one in beside)]) != 0:
        raise SeveralListsError([rows, *beside])
    for one in beside:
        yield Skipped(source.name, RejectReason.OTHER_SPLIT, one.name)


def _lines_before(pieces: Chunks, begin: int) -> Chunks:
    """The content from an offset on, after as many line ends as there are before it."""
    for chunk in pieces:
        if begin <= 0:
            yield chunk
            continue
        yield b"\n" * chunk.count(b"\n", 0, begin) + chunk[begin:]
        begin -= len(chunk)


def _row_of(name: str, line: int, raw: bytes, inner: str) -> Record | Rejected:
    """A row of a list; with `inner`, the object under that key is the row."""
    value = decode(raw) if inner else None
    if not isinstance(value, dict) or not isinstance(value.get(inner), dict):
        return record_of(name, line, raw)
    if value.get(_CUT_CELLS):
        return Rejected(name, line, RejectReason.CUT_CELLS, f"{value[_CUT_CELLS]}"[:200])
    return record_of(name, line, msgspec.json.encode(value[inner]))
