"""Row formats: the fields that make a row a text, a conversation or token ids."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from headway.data.formats.fields.answers import alpaca, completion, pair
from headway.data.formats.fields.conversations import BESIDE, conversation
from headway.data.formats.fields.pairs import ANSWERS, QUESTIONS, question_keys
from headway.data.formats.fields.preferences import (
    FEEDBACK,
    OTHERS,
    PREFERRED,
    TURNS,
    holds_answers,
    preference,
    with_feedback,
)
from headway.data.formats.fields.row_flags import PROMPT_FLAGS, ROW_FLAGS, check_row_flags
from headway.data.formats.fields.token_rows import TOKEN_KEYS, tokens
from headway.data.formats.fields.values import has_nan, is_missing, shorten
from headway.data.formats.records import Record, Rejected, RejectReason, UnfitError

_FLAGS = (*ROW_FLAGS, *PROMPT_FLAGS)


def record_of_fields(
    file: str, line: int, fields: dict[str, Any], unread: tuple[str, ...] = ()
) -> Record | Rejected:
    """Parse a row of named fields as a record, or reject it with a reason.

    Args:
        file: of the row.
        line: of the row.
        fields: of the row.
        unread: names of other fields, which were left in the file.
    """
    try:
        record = parse_row(file, line, fields)[1]
    except UnfitError as unfit:
        return unfit.rejected(file, line)
    return replace(record, unread=(*record.unread, *unread)) if unread else record


# ---- formats -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowFormat:
    """One way to write a record as named fields.

    Attributes:
        name: for people.
        keys: a row that has all of them is in this format.
        read: makes the record.
        also: optional keys.
        turns: the key of the list of messages; "" if there is none.
        in_turns: the keys of a message.
        flags: optional keys that say whether the row is trained.
        feedback: optional keys that say whether the answer is good.
        asks: whether a question is in fields of its own.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[str, int, dict[str, Any]], Record]
    also: tuple[str, ...] = ()
    turns: str = ""
    in_turns: tuple[str, ...] = ()
    flags: tuple[str, ...] = _FLAGS
    feedback: tuple[str, ...] = FEEDBACK
    asks: bool = False

    @functools.cached_property
    def quoted_in_turns(self) -> tuple[bytes, ...]:
        """The keys of a message as they appear in JSON."""
        return tuple(b'"%b"' % key.encode() for key in self.in_turns)

    def own(self, names: tuple[str, ...]) -> frozenset[str]:
        """The keys that `read` reads of a row with fields of these names."""
        asked = question_keys(names) if self.asks else ()
        is_other_beside = self is _PREFERENCE and not any(name in names for name in PREFERRED)
        answered = ANSWERS if is_other_beside else ()
        return frozenset((*self.keys, *self.also, *asked, *answered))


@dataclass(frozen=True)
class RowShape:
    """A row format, and the fields of a row that are in it.

    Attributes:
        format: of the row.
        read: names of the fields that the format reads.
        quoted: the same as they appear in JSON.
        flags: those that say whether the row is trained.
        feedback: those that say whether the answer is good.
        unread: names of all other fields.
    """

    format: RowFormat
    read: tuple[str, ...]
    quoted: tuple[bytes, ...]
    flags: tuple[str, ...]
    feedback: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def name(self) -> str:
        """The format's name, for people."""
        return self.format.name


@functools.lru_cache(1024)
def shape_of(*names: str) -> RowShape | None:
    """The format of a row with fields of these names; None if there is none."""
    return _shape_among(FORMATS, names)


@functools.lru_cache(1024)
def _ordinary_shape_of(*names: str) -> RowShape | None:
    """The format if no field holds an answer to compare."""
    return _shape_among(FORMATS[1:], names)


def _shape_among(formats: tuple[RowFormat, ...], names: tuple[str, ...]) -> RowShape | None:
    format = next((one for one in formats if _is_in(one, names)), None)  # noqa: A001
    if format is None:
        return None
    own = format.own(names)
    flags = tuple(name for name in names if name in format.flags and name not in own)
    feedback = tuple(name for name in names if name in format.feedback and name not in own)
    read = tuple(name for name in names if name in (*own, *flags, *feedback))
    quoted = tuple(b'"%b"' % name.encode() for name in read)
    unread = tuple(name for name in names if name not in read)
    return RowShape(format, read, quoted, flags, feedback, unread)


def _is_in(format: RowFormat, names: tuple[str, ...]) -> bool:  # noqa: A002 - the subject
    if format is _PREFERENCE:
        asked = any(name in names for name in (*TURNS, *QUESTIONS))
        preferred = any(name in names for name in PREFERRED)
        others = any(name in names for name in OTHERS)
        return (preferred and others) or (asked and (preferred or others))
    if format is _PAIR:
        return any(q in names for q in QUESTIONS) and any(a in names for a in ANSWERS)
    return all(key in names for key in format.keys)


def parse_row(
    file: str, line: int, fields: dict[str, Any], *, has_nan: bool = False
) -> tuple[RowShape, Record]:
    """The shape of a row, and its record.

    Args:
        file: of the row.
        line: of the row.
        fields: of the row.
        has_nan: whether a number in it is NaN or infinite.

    Raises:
        UnfitError: the row is not a record.
    """
    shape = shape_of(*fields)
    if shape and shape.format is _PREFERENCE and not holds_answers(fields):
        given = (n for n in fields if n not in _ANSWERS_TO_COMPARE or not is_missing(fields[n]))
        shape = _ordinary_shape_of(*given)
    if shape is None:
        keys = tuple(map(str, fields))
        raise UnfitError(RejectReason.NO_KNOWN_FIELDS, "keys: " + ", ".join(keys), keys)
    if has_nan:
        _check_numbers(fields, shape)
    record = shape.format.read(file, line, fields)
    if shape.unread:
        record = replace(record, unread=shape.unread)
    if shape.flags and (unread := check_row_flags(fields, shape.flags)):
        record = replace(record, unread=(*record.unread, *unread))
    return shape, with_feedback(record, fields, shape.feedback) if shape.feedback else record


def _check_numbers(fields: dict[str, Any], shape: RowShape) -> None:
    for name in shape.read:
        if has_nan(fields[name]):
            raise UnfitError(RejectReason.NAN, name)


# ---- texts and turns ---------------------------------------------------------------------------


def _text(file: str, line: int, fields: dict[str, Any]) -> Record:
    text = fields["text"]
    if not isinstance(text, str):
        raise UnfitError(RejectReason.TEXT_NOT_A_STRING, f"text: {shorten(text)}")
    if not text or text.isspace():
        raise UnfitError(RejectReason.EMPTY_TEXT, shorten(text))
    return Record(file, line, text=text)


def _openai(file: str, line: int, fields: dict[str, Any]) -> Record:
    return conversation(file, line, fields, fields["messages"], "OpenAI messages")


def _sharegpt(file: str, line: int, fields: dict[str, Any]) -> Record:
    return conversation(file, line, fields, fields["conversations"], "ShareGPT conversations")


def _dialogue(file: str, line: int, fields: dict[str, Any]) -> Record:
    return conversation(file, line, fields, fields["conversation"], "conversation of pairs")


_ANSWERS_TO_COMPARE = frozenset((*PREFERRED, *OTHERS))
_PREFERENCE = RowFormat(
    "preference data", (), preference, (*TURNS, *PREFERRED, *OTHERS, *BESIDE),
    feedback=(), asks=True,
)  # fmt: skip
_PAIR = RowFormat("question and answer", (), pair, (*ANSWERS, *BESIDE), asks=True)
# A row is in the first of these formats whose keys it has.
FORMATS = (
    _PREFERENCE,
    RowFormat("OpenAI messages", ("messages",), _openai, BESIDE, "messages", ("role", "content")),
    RowFormat("ShareGPT conversations", ("conversations",), _sharegpt, BESIDE,
              "conversations", ("from", "value")),
    RowFormat("conversation of pairs", ("conversation",), _dialogue, BESIDE),
    RowFormat("tokens", ("input_ids",), tokens, TOKEN_KEYS),
    RowFormat("prompt and completion", ("prompt", "completion"), completion,
              ("history", *BESIDE)),
    RowFormat("Alpaca instructions", ("instruction", "output"), alpaca, BESIDE,
              asks=True),
    RowFormat("text", ("text",), _text, feedback=()),
    _PAIR,
)  # fmt: skip
# Names that make a row a record, for suggestions.
KEYS = frozenset(key for one in FORMATS for key in one.keys)
