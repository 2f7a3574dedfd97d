"""JSON outline: the lists inside an object, found without decoding what they hold."""

import contextlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import msgspec

from headway.data.formats.fields.turns import is_turn
from headway.data.formats.json import IN_STRING, TO_BRACKET, end_of
from headway.data.formats.row_formats import shape_of

_TO_MARK = re.compile(rb'[^"{}\[\],]*+')
_IN_STRING = re.compile(IN_STRING, re.DOTALL)
_STRING = re.compile(IN_STRING + rb'"', re.DOTALL)
_FIRST_BYTES = 8 << 20  # of a list's first element that are kept
_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class RowList:
    """A list in an object, or in an object inside it.

    Attributes:
        path: the keys that lead to it.
        begin: offset of its bracket.
        first: its first element that is an object or a list; b"" if none was seen whole.
    """

    path: tuple[str, ...]
    begin: int
    first: bytes = b""

    @property
    def name(self) -> str:
        """Its path, for people."""
        return ".".join(self.path)

    @property
    def has_objects(self) -> bool:
        """Whether it begins with an object."""
        return isinstance(self._value, dict)

    @property
    def has_rows(self) -> bool:
        """Whether its first element has the fields of a known format, or is a list of messages."""
        if isinstance(self._value, list):
            turns = cast("list[Any]", self._value)
            return bool(turns) and is_turn(turns[0])
        return bool(self.inner) or has_known_fields(self._value)

    @cached_property
    def inner(self) -> str:
        """The key of each element that holds the row, as in {"row": {...}}; "" if none does."""
        if not isinstance(self._value, dict) or has_known_fields(self._value):
            return ""
        fields = cast("dict[str, Any]", self._value)
        inner = [key for key, value in fields.items() if has_known_fields(value)]
        return inner[0] if len(inner) == 1 else ""

    @cached_property
    def _value(self) -> Any:
        return decode(self.first)


def decode(raw: bytes) -> Any:
    """A JSON value, which may hold NaN as Python writes it; None if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return msgspec.json.decode(raw)
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(raw)
    return None


def has_known_fields(value: object) -> bool:
    """Whether a value is an object with the fields of a known format."""
    return isinstance(value, dict) and shape_of(*cast("dict[str, Any]", value)) is not None


class Outline:
    """Walks through an object, and remembers the lists in it and in objects inside it.

    Args:
        path: of the object that is open at the beginning, after one of its values; (): none is.

    Attributes:
        lists: in order.
        is_closed: whether the outermost object has ended.
    """

    def __init__(self, path: tuple[str, ...] = ()) -> None:
        self.lists: list[RowList] = []
        self.is_closed = False
        self._path = list(path)  # the key that was read last in each open object
        self._reads_key = False
        self._num_open = 0  # brackets in a list, its own included
        self._in_string = False
        self._first: bytearray | None = None  # of a list, being read
        self._offset = 0  # bytes before the piece
        self._escaped = 0  # bytes of the next piece that a backslash escapes
        self._held = b""  # of a key that does not end in its piece

    def feed(self, piece: bytes) -> None:
        """Walk through more of the content."""
        begin = self._offset - len(self._held)  # of the piece, with what was held
        piece, self._held = self._held + piece, b""
        at = self._escaped
        self._keep(piece, 0, at)
        while at < len(piece) and not self.is_closed:
            if self._in_string:
                at = self._skip_string(piece, at)
            elif self._num_open:
                at = self._walk_list(piece, at)
            else:
                at = self._walk_object(piece, at, begin)
        self._escaped = max(at - len(piece), 0) if self._in_string else 0
        self._offset = begin + len(piece)

    def _keep(self, piece: bytes, begin: int, end: int) -> None:
        """Keep a part of a list's first element."""
        if self._first is not None and len(self._first) <= _FIRST_BYTES:
            self._first += piece[begin:end]

    def _skip_string(self, piece: bytes, at: int) -> int:
        end = end_of(_IN_STRING, piece, at)
        stopped_at = piece[end : end + 1]
        self._in_string = stopped_at != b'"'
        # A backslash that ends the piece escapes the first byte of the next one.
        next_at = end + {b"": 0, b'"': 1, b"\\": 2}[stopped_at]
        self._keep(piece, at, next_at)
        return next_at

    def _walk_list(self, piece: bytes, at: int) -> int:
        """Go on to the next bracket in a list."""
        end = end_of(TO_BRACKET, piece, at) + 1
        found = piece[end - 1 : end]
        is_element = self._num_open == 1 and found in (b"{", b"[") and not self.lists[-1].first
        if is_element and self._first is None:
            self._first = bytearray()
            at = end - 1
        self._keep(piece, at, end)
        if found == b'"':
            self._in_string = True
        elif found in (b"{", b"["):
            self._num_open += 1
        elif found:
            self._num_open -= 1
            self._end_element()
        return end

    def _end_element(self) -> None:
        if self._first is not None and self._num_open == 1:
            whole = self.lists.pop()
            self.lists.append(RowList(whole.path, whole.begin, bytes(self._first)))
            self._first = None

    def _walk_object(self, piece: bytes, at: int, begin: int) -> int:
        """Go on to the next mark outside of lists."""
        at = end_of(_TO_MARK, piece, at)
        found = piece[at : at + 1]
        if found == b'"' and self._reads_key:
            return self._read_key(piece, at)
        match found:
            case b'"':
                self._in_string = True
            case b"{":
                self._path.append("")
                self._reads_key = True
            case b"[":
                self._num_open, self._first = 1, None
                self.lists.append(RowList(tuple(self._path), begin + at))
            case b",":
                self._reads_key = bool(self._path)
            case b"}" | b"]":
                self._path = self._path[:-1]
                self._reads_key = False
                self.is_closed = not self._path
            case _:
                pass
        return at + 1

    def _read_key(self, piece: bytes, at: int) -> int:
        match = _STRING.match(piece, at + 1)
        if match is None:
            if len(piece) - at > _KEY_BYTES:
                self._in_string, self._reads_key = True, False
                return at + 1
            self._held = piece[at:]
            return len(piece)
        self._path[-1] = str(decode(piece[at : match.end()]))
        self._reads_key = False
        return match.end()
