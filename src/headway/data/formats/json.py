"""JSON and JSONL readers; large arrays are streamed."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from headway.base.units import count, size
from headway.data.formats.fields.turns import is_turn
from headway.data.formats.fields.values import drop_nulls
from headway.data.formats.lines import LONGEST_LINE, Overlong, lines
from headway.data.formats.records import (
    DamagedError,
    Item,
    Record,
    Rejected,
    RejectReason,
    UnfitError,
)
from headway.data.formats.row_formats import RowShape, parse_row
from headway.data.sources.source import Chunks, Source

_MAX_DEPTH = 100_000  # open brackets: no row has as many
_COMMAS = b" \t\r\n,"
IN_STRING = rb'(?:[^"\\]++|\\.)*+'
_STRING = re.compile(IN_STRING, re.DOTALL)
TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"' + IN_STRING + rb'")*+', re.DOTALL)
_NOT_FINITE = re.compile(rb'"' + IN_STRING + rb'"|-?Infinity\b|NaN\b', re.DOTALL)
_decode = msgspec.json.Decoder().decode


def read_jsonl(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per line; blank lines are skipped.

    A line may end in a comma, or hold several objects.
    """
    name = source.name
    for line, raw in enumerate(lines(pieces), 1):
        if raw and not raw.isspace():
            item = record_of(name, line, raw)
            if isinstance(item, Rejected) and item.reason is RejectReason.NOT_JSON:
                yield from _records_of_line(item, raw)
            else:
                yield item


def _records_of_line(rejected: Rejected, raw: bytes) -> Iterator[Record | Rejected]:
    """The objects of a line that is not a single one; else the line as it was rejected."""
    try:
        found = [value for _, value in values(iter([raw]))]
    except DamagedError:
        found = []
    made = [record_of(rejected.file, rejected.line, one) for one in found if one[:1] == b"{"]
    is_whole = len(made) == len(found) and raw.lstrip()[:1] == b"{"
    if made and is_whole and not any(getattr(one, "reason", "") == rejected.reason for one in made):
        yield from made
    else:
        yield rejected


def read_json(source: Source, pieces: Chunks) -> Iterator[Item]:
    """One record per object of an array, or per object that follows another.

    Raises:
        DamagedError: the file ends inside an object or the array.
    """
    for value in values(pieces):
        yield record_of(source.name, *value)


# ---- one row ---------------------------------------------------------------------------------


def record_of(file: str, line: int, raw: bytes) -> Record | Rejected:
    """Parse one JSON object as a record, or reject it with a reason."""
    try:
        fields, has_nan = _fields(raw)
        shape, record = parse_row(file, line, fields, has_nan=has_nan)
        if _may_repeat(raw, shape, fields):
            _check_repeated(raw, shape)
        return record
    except UnfitError as unfit:
        return unfit.rejected(file, line)


def _fields(raw: bytes) -> tuple[dict[str, Any], bool]:
    """The fields of a row, and whether a number in it is NaN or infinite."""
    if isinstance(raw, Overlong):
        raise UnfitError(
            RejectReason.ROW_TOO_LONG, f"more than {size(LONGEST_LINE)}: {_start(raw)}"
        )
    has_nan = False
    try:
        try:
            fields = _decode(raw)
        except msgspec.DecodeError:
            if b"NaN" not in raw and b"Infinity" not in raw:
                raise
            fields, has_nan = _decode_with_nan(raw), True
    except RecursionError:
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY, _start(raw)) from None
    except UnicodeDecodeError:
        raise UnfitError(
            RejectReason.ROW_NOT_UTF8, f"{_first_not_utf8(raw)}: {_start(raw)}"
        ) from None
    except ValueError as error:
        raise UnfitError(RejectReason.NOT_JSON, f"{error}: {_start(raw)}") from None
    if fields and isinstance(fields, list) and all(map(is_turn, cast("list[object]", fields))):
        fields = {"messages": fields}
    if not isinstance(fields, dict):
        raise UnfitError(RejectReason.NOT_AN_OBJECT, _start(raw))
    fields = cast("dict[str, Any]", fields)
    if b"null" in raw:  # Arrow writes every key that any row has
        fields = {name: drop_nulls(value) for name, value in fields.items()}
    return fields, has_nan


def _decode_with_nan(raw: bytes) -> Any:
    """Decode JSON in which Python wrote NaN or infinity, which JSON does not have.

    Raises:
        ValueError: it is not JSON for another reason.
    """
    _decode(_NOT_FINITE.sub(_without_nan, raw))
    return json.loads(raw)


def _without_nan(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0][:1] == b'"' else b"null"


def _may_repeat(raw: bytes, shape: RowShape, fields: dict[str, Any]) -> bool:
    """Whether a known key may be repeated: its name occurs more often than once per use."""
    for quoted in shape.quoted:
        if raw.count(quoted) > 1:
            return True
    turns = shape.format.turns
    if not turns:
        return False
    num_turns = len(fields[turns])
    return any(raw.count(quoted) > num_turns for quoted in shape.format.quoted_in_turns)


def _check_repeated(raw: bytes, shape: RowShape) -> None:
    """Reject a repeated key: a decoder would silently keep only one of its values."""
    read = {*shape.read, *shape.format.in_turns}
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
        return f"byte {raw[error.start]:#04x} at offset {count(error.start)} of the row"
    return "an escape that is not a character"


def _start(raw: bytes) -> str:
    return raw[:80].decode(errors="replace")


# ---- consecutive values ----------------------------------------------------------------------


def values(pieces: Chunks) -> Iterator[tuple[int, bytes]]:
    """The objects of an array, or consecutive objects, each with its line number.

    Anything else between them, except white space and commas, is yielded as a value too, so that
    `record_of` can reject it.

    Raises:
        DamagedError: the input ends inside an object or the array.
    """
    scanner = Scanner()
    for chunk in pieces:
        yield from scanner.feed(chunk)
    yield from scanner.finish()


class Scanner:
    """Finds where objects begin and end, from the brackets outside strings.

    Args:
        is_alone: stop at the end of the first array.

    Attributes:
        is_over: whether that was reached.
    """

    def __init__(self, *, is_alone: bool = False) -> None:
        self.is_over = False
        self._is_alone = is_alone
        self._parts: list[
            bytes
        ] = []  # carried over from earlier pieces: of a value, or between two
        self._num_bytes = 0  # in `_parts`
        self._line = 1  # where `_parts` begins
        self._piece = b""
        self._begin = 0  # the piece is taken up to here
        self._at = 0  # the piece is scanned up to here
        self._depth = 0  # open brackets
        self._base = 0  # open brackets around each object: 1 in an array
        self._in_string = False
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The values that end in this piece."""
        self._piece, self._begin = piece, 0
        while self._at < len(piece) and not self.is_over:
            if self._in_string:
                self._skip_string()
                continue
            self._at = end_of(TO_BRACKET, piece, self._at) + 1
            found = piece[self._at - 1 : self._at]
            if found == b'"':  # a string that does not end in this piece
                self._in_string = True
            elif found:
                yield from self._read_bracket(found)
            else:
                self._at = len(piece)
        self._at -= len(piece)
        self._parts.append(piece[self._begin :])
        self._num_bytes += len(piece) - self._begin
        if self._num_bytes > LONGEST_LINE:
            raise DamagedError(f"has more than {size(LONGEST_LINE)} inside {self._place}")

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """Any value left at the end."""
        if self._in_string or self._depth > 0:
            raise DamagedError(f"is truncated inside {self._place}")
        self._piece = b""
        yield from self._read_between(0)

    @property
    def line(self) -> int:
        """The line that it has come to."""
        return self._line

    @property
    def left_over(self) -> bytes:
        """What was read after the array."""
        return b"".join(self._parts)

    @property
    def _place(self) -> str:
        inside = "the array, after" if self._depth == self._base else "the row that begins on"
        return f"{inside} line {count(self._line)}"

    def _skip_string(self) -> None:
        """Skip to the end of the string, or of the piece."""
        end = end_of(_STRING, self._piece, self._at)
        stopped_at = self._piece[end : end + 1]
        self._in_string = stopped_at != b'"'
        # A backslash that ends the piece escapes the first byte of the next one.
        self._at = end + {b"": 0, b'"': 1, b"\\": 2}[stopped_at]

    def _read_bracket(self, found: bytes) -> Iterator[tuple[int, bytes]]:
        if found in b"{[":
            if self._depth == self._base:
                yield from self._read_between(self._at - 1)
            if found == b"[" and self._is_first:
                self._base = 1
                self._take(self._at)
            self._is_first = False
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise DamagedError(f"is nested too deeply inside {self._place}")
        elif self._depth > self._base:
            self._depth -= 1
            if self._depth == self._base:
                line = self._line
                yield line, self._take(self._at)
        elif found == b"]" and self._base:
            yield from self._read_between(self._at - 1)
            self._take(self._at)
            self._depth = self._base = 0
            self.is_over = self._is_alone

    def _read_between(self, end: int) -> Iterator[tuple[int, bytes]]:
        line, left = self._line, self._take(end).rstrip(_COMMAS)
        if left.lstrip(_COMMAS):
            self._is_first = False
            value = left.lstrip(_COMMAS)
            yield line + left.count(b"\n") - value.count(b"\n"), value

    def _take(self, end: int) -> bytes:
        """Remove and return everything up to `end` of the piece."""
        taken = b"".join([*self._parts, self._piece[self._begin : end]])
        self._parts, self._num_bytes, self._begin = [], 0, end
        self._line += taken.count(b"\n")
        return taken


def end_of(pattern: re.Pattern[bytes], piece: bytes, at: int) -> int:
    """Where the match of a pattern that also matches the empty string ends."""
    matched = pattern.match(piece, at)
    assert matched is not None
    return matched.end()
