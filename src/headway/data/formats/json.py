"""JSON and JSONL readers; an array of objects is never held in memory as a whole."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from headway.base.units import count, size
from headway.data.formats.lines import LONGEST_LINE, Overlong, lines
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    UnfitError,
)
from headway.data.formats.row_formats import RowFormat, fitting
from headway.data.sources.source import Chunks, Source

_COMMAS = b" \t\r\n,"
_IN_STRING = rb'(?:[^"\\]++|\\.)*+'
_STRING = re.compile(_IN_STRING, re.DOTALL)
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"' + _IN_STRING + rb'")*+', re.DOTALL)
_decode = msgspec.json.Decoder().decode


def read_jsonl(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per line; blank lines are none."""
    name = source.name
    for line, raw in enumerate(lines(pieces), 1):
        if raw and not raw.isspace():
            yield record_of(name, line, raw)


def read_json(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per object of an array, or per object that follows another.

    Raises:
        DamagedError: it ends inside an object or the array.
    """
    for value in values(pieces):
        yield record_of(source.name, *value)


# ---- one row ---------------------------------------------------------------------------------


def record_of(file: str, line: int, raw: bytes) -> Record | Rejected:
    """One JSON object as a record, or why it is none."""
    try:
        fields = _fields(raw)
        shape, record = fitting(file, line, fields)
        if _may_repeat(raw, shape, fields):
            _check_repeated(raw, shape)
        return record
    except UnfitError as unfit:
        return unfit.rejected(file, line)


def _fields(raw: bytes) -> dict[str, Any]:
    if isinstance(raw, Overlong):
        raise UnfitError(
            RejectReason.ROW_TOO_LONG, f"more than {size(LONGEST_LINE)}: {_start(raw)}"
        )
    try:
        fields = _decode(raw)
    except RecursionError:
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY, _start(raw)) from None
    except UnicodeDecodeError:
        raise UnfitError(
            RejectReason.ROW_NOT_UTF8, f"{_first_not_utf8(raw)}: {_start(raw)}"
        ) from None
    except ValueError as error:
        raise UnfitError(RejectReason.NOT_JSON, f"{error}: {_start(raw)}") from None
    if not isinstance(fields, dict):
        raise UnfitError(RejectReason.NOT_AN_OBJECT, _start(raw))
    return cast("dict[str, Any]", fields)


def _may_repeat(raw: bytes, shape: RowFormat, fields: dict[str, Any]) -> bool:
    """Whether a key that is read may be given twice: it is written more often than it is there."""
    for key, quoted in shape.quoted.items():
        if key in fields and raw.count(quoted) > 1:
            return True
    if not shape.quoted_in_turns:
        return False
    num_turns = len(fields[shape.turns])
    return any(raw.count(key) > num_turns for key in shape.quoted_in_turns)


def _check_repeated(raw: bytes, shape: RowFormat) -> None:
    """A decoder keeps one value of a key that is given twice, and loses the other."""
    read = {*shape.keys, *shape.also, *shape.in_turns}
    repeated: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> dict[str, object]:
        times = Counter(key for key, _ in pairs)
        repeated.extend(key for key in times if times[key] > 1 and key in read)
        return dict(pairs)

    try:
        json.loads(raw, object_pairs_hook=note)
    except RecursionError:
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY, _start(raw)) from None
    if repeated:
        raise UnfitError(RejectReason.REPEATED_KEY, ", ".join(repeated))


def _first_not_utf8(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"byte {raw[error.start]:#04x} at offset {count(error.start)} of it"
    return "an escape that is no character"


def _start(raw: bytes) -> str:
    return raw[:80].decode(errors="replace")


# ---- values, one after the other -------------------------------------------------------------


def values(pieces: Chunks) -> Iterator[tuple[int, bytes]]:
    """The objects of an array, or objects one after the other, each with its line.

    What stands between them and is neither blank nor a comma comes as a value too: `record_of`
    says what it is.

    Raises:
        DamagedError: it ends inside an object or the array.
    """
    scanner = _Scanner()
    for chunk in pieces:
        yield from scanner.feed(chunk)
    yield from scanner.finish()


class _Scanner:
    """Finds where objects begin and end: brackets that are in no string."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of what began in earlier pieces: a value, or between two
        self._num_bytes = 0  # of them
        self._line = 1  # where that began
        self._piece = b""
        self._begin = 0  # what was taken of the piece ends here
        self._at = 0  # what was looked at of it ends here
        self._depth = 0  # brackets that are open
        self._base = 0  # brackets that are open around each object: 1 in an array
        self._in_string = False
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The values that end in this piece."""
        self._piece, self._begin = piece, 0
        while self._at < len(piece):
            if self._in_string:
                self._string()
                continue
            self._at = _end(_TO_BRACKET, piece, self._at) + 1
            found = piece[self._at - 1 : self._at]
            if found == b'"':  # of a string that does not end in this piece
                self._in_string = True
            elif found:
                yield from self._bracket(found)
            else:
                self._at = len(piece)
        self._at -= len(piece)
        self._parts.append(piece[self._begin :])
        self._num_bytes += len(piece) - self._begin
        if self._num_bytes > LONGEST_LINE:
            raise DamagedError(f"has more than {size(LONGEST_LINE)} inside {self._place}")

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """What is left at the end."""
        if self._in_string or self._depth > 0:
            raise DamagedError(f"breaks off inside {self._place}")
        self._piece = b""
        yield from self._between(0)

    @property
    def _place(self) -> str:
        inside = "the array, after" if self._depth == self._base else "the row that begins at"
        return f"{inside} line {count(self._line)}"

    def _string(self) -> None:
        """Go to the end of the string, or of the piece."""
        end = _end(_STRING, self._piece, self._at)
        stopped_at = self._piece[end : end + 1]
        self._in_string = stopped_at != b'"'
        # A backslash that ends the piece escapes the first byte of the next one.
        self._at = end + {b"": 0, b'"': 1, b"\\": 2}[stopped_at]

    def _bracket(self, found: bytes) -> Iterator[tuple[int, bytes]]:
        if found in b"{[":
            if self._depth == self._base:
                yield from self._between(self._at - 1)
            if found == b"[" and self._is_first:
                self._base = 1
                self._taken(self._at)
            self._is_first = False
            self._depth += 1
        elif self._depth > self._base:
            self._depth -= 1
            if self._depth == self._base:
                line = self._line
                yield line, self._taken(self._at)
        elif found == b"]" and self._base:
            yield from self._between(self._at - 1)
            self._taken(self._at)
            self._depth = self._base = 0

    def _between(self, end: int) -> Iterator[tuple[int, bytes]]:
        line, left = self._line, self._taken(end).rstrip(_COMMAS)
        if left.lstrip(_COMMAS):
            self._is_first = False
            value = left.lstrip(_COMMAS)
            yield line + left.count(b"\n") - value.count(b"\n"), value

    def _taken(self, end: int) -> bytes:
        """Let go of everything up to `end` of the piece."""
        taken = b"".join([*self._parts, self._piece[self._begin : end]])
        self._parts, self._num_bytes, self._begin = [], 0, end
        self._line += taken.count(b"\n")
        return taken


def _end(pattern: re.Pattern[bytes], piece: bytes, at: int) -> int:
    """Where a pattern that matches nothing too ends."""
    matched = pattern.match(piece, at)
    assert matched is not None
    return matched.end()
