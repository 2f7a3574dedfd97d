"""Record types: records, rejected rows with the reasons for it, skipped files."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from headway.data.sources.source import Source

DataKind = Literal["text", "conversations", "tokens"]


class RejectReason(StrEnum):
    """Why a record or a file is not trained on; the values are stored in `rejected.jsonl`."""

    # whole files
    EMPTY = "empty"
    BLANK = "blank"
    BINARY = "binary"
    NOT_UTF8 = "not UTF-8"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    OTHER_SPLIT = "another split"
    SEVERAL_LISTS = "several lists of rows"
    LFS_POINTER = "a Git LFS pointer"

    # rows as written
    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not a JSON object"
    NAN = "NaN or infinity in a field that is read"
    ROW_TOO_LONG = "row too long"
    NESTED_TOO_DEEPLY = "nested too deeply"
    ROW_NOT_UTF8 = "row is not UTF-8"
    REPEATED_KEY = "a key twice"
    NOT_CSV = "not CSV"
    CUT_CELLS = "cells cut by the server"
    WRONG_NUMBER_OF_FIELDS = "fields do not fit the header"

    # what the fields hold
    NO_KNOWN_FIELDS = "no text or messages"
    TEXT_NOT_A_STRING = "text is not a string"
    EMPTY_TEXT = "empty text"
    PREFERENCE_DATA = "preference data"
    NOT_PREFERRED = "not a preferred answer"
    FIELDS_AMBIGUOUS = "fields that can be read in two ways"
    QUESTION_NOT_TEXT = "the question is not text"
    ANSWER_NOT_TEXT = "the answer is not text"
    UNKNOWN_ROLE = "unknown role"
    HISTORY_NOT_PAIRS = "history is not a list of pairs"
    MESSAGES_NOT_A_LIST = "messages are not a list of objects"
    TOOLS_NOT_A_LIST = "tools are not a list of objects"
    TOOLS_DIFFER = "two different lists of tools"
    CALLS_NOT_A_LIST = "tool calls are not a list of objects"
    ARGUMENTS_NOT_JSON = "arguments of a tool call are not JSON"
    CONTENT_NOT_TEXT = "content is not text"
    SYSTEM_NOT_TEXT = "the system prompt is not text"
    SYSTEMS_DIFFER = "two different system prompts"
    ROW_UNTRAINED = "marked as not to be trained"
    QUESTION_UNTRAINED = "a turn that is not an answer is marked as not to be trained"
    FLAG_UNCLEAR = "a training flag that is neither true nor false"
    FLAG_UNKNOWN = "an unknown training flag"
    FLAGS_CONTRADICT = "training flags that contradict each other"

    # token ids
    IDS_NOT_A_LIST = "input_ids are not a list of token ids"
    LABELS_DO_NOT_MATCH = "labels do not fit input_ids"
    MASK_DOES_NOT_MATCH = "a mask does not fit input_ids"
    MASKED_IN_THE_MIDDLE = "attention_mask hides tokens in the middle"
    POSITIONS = "position_ids do not count from 0"
    SEVERAL_SEQUENCES = "several sequences in one row"
    NO_LEARNED_LABEL = "no learned label"
    TOKEN_OUTSIDE_VOCABULARY = "a token outside the vocabulary"  # noqa: S105 - a token of text

    # examples
    NO_TRAINED_TOKEN = "no trained token"  # noqa: S105 - a token of text
    NO_UNTRAINED_TOKEN = "no untrained token"  # noqa: S105 - a token of text
    EMPTY_ANSWER = "an empty answer"
    CALLS_NOT_WRITTEN = "an answer that is a tool call, which the template does not write"
    REASONING_NOT_WRITTEN = "an answer that is reasoning, which the template does not write"
    ANSWER_NOT_WRITTEN = "an answer that the template does not write"
    TEMPLATE_FAILS = "the template fails"
    TEMPLATE_CHANGES_EARLIER_TURNS = "the template changes earlier turns"
    TEMPLATE_MARKS_IN_MACRO = "the template marks answers inside a macro"
    TEMPLATE_MARK_AMBIGUOUS = "the template does not tell which answer a mark belongs to"

    # rows of a run
    DUPLICATE = "a duplicate"
    NOT_TEXT = "not text"
    NOT_CONVERSATIONS = "not conversations"
    NOT_TOKENS = "not tokens"
    TOO_LONG = "longer than max_length"
    NO_ANSWER_LEFT = "no answer left within max_length"


# Records that were left out because a person or the row itself says so: no errors in the data.
LEFT_OUT = (RejectReason.DUPLICATE, RejectReason.NOT_PREFERRED, RejectReason.ROW_UNTRAINED)


class Feedback(StrEnum):
    """What a row says about its answer; the worst comes first."""

    BAD = "bad"
    GOOD = "good"
    PREFERRED = "preferred"  # to another one, which is left out

    @property
    def detail(self) -> str:
        """What was found, for people."""
        return "answers to compare" if self is Feedback.PREFERRED else f"an answer labeled {self}"


@dataclass(frozen=True, slots=True)
class Record:
    """One document or conversation as read, not yet tokenized.

    Exactly one of `text`, `messages` and `ids` is set.
    """

    file: str  # as named by the user, or below the folder named
    line: int  # 1-based, where the record begins
    text: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None  # in OpenAI's format: role, content
    tools: tuple[dict[str, Any], ...] | None = None
    ids: tuple[int, ...] | None = None  # already tokenized
    labels: tuple[int, ...] | None = None  # of `ids`; -100: not trained; None: all are trained
    ends: bool = True  # False: part of a long text file, with more after it
    shape: str = field(default="text", compare=False)  # name of the row format
    begins: bool = True  # False: part of a long text file, with more before it
    feedback: Feedback | None = None  # on its answer
    notes: tuple[tuple[str, int], ...] = field(default=(), compare=False)  # worth counting
    unread: tuple[str, ...] = field(default=(), compare=False)  # fields that nothing reads

    @property
    def kind(self) -> DataKind:
        """Whether it is a text, a conversation, or token ids."""
        if self.messages is not None:
            return "conversations"
        return "text" if self.ids is None else "tokens"

    @property
    def texts(self) -> list[str]:
        """The text, or each message's content without its role."""
        if self.messages is None:
            return [self.text or ""]
        return [message["content"] for message in self.messages if message["content"]]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be trained on, for `rejected.jsonl`.

    Attributes:
        file: as named by the user, or below the folder named.
        line: 1-based, where the record begins.
        reason: the category it is counted under.
        detail: what was found, shortened.
        keys: the fields of the row, if none of them is known.
    """

    file: str
    line: int
    reason: RejectReason
    detail: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was skipped, completely or from some point on."""

    file: str
    reason: RejectReason
    detail: str = ""


Item = Record | Rejected | Skipped


class UnfitError(Exception):
    """A row that is not a record: the reason, what was found, and its keys if none is known."""

    def __init__(self, reason: RejectReason, detail: str = "", keys: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]
        self.keys = keys

    def rejected(self, file: str, line: int) -> Rejected:
        """The row as a rejected one."""
        return Rejected(file, line, self.reason, self.detail, self.keys)


class DamagedError(Exception):
    """A file that is truncated or corrupt, so that the rest of it cannot be trusted.

    The message continues a sentence that starts with the file's name: "is truncated at byte 7".
    """


def unusable_file(
    source: Source,
    reason: RejectReason,
    detail: str = "",
    *,
    keys: tuple[str, ...] = (),
) -> Skipped | Rejected:
    """A file without records: skipped if found in a folder, rejected if the user named it."""
    if source.found:
        return Skipped(source.name, reason, detail)
    return Rejected(source.name, 1, reason, detail, keys)


def content_key(record: Record) -> bytes:
    """A 16-byte digest of a record's content, regardless of its file and line."""
    if record.text is not None:
        content = record.text.encode()
    else:
        said = (record.messages, record.tools, record.ids, record.labels)
        content = msgspec.json.encode(said, order="deterministic")
    return hashlib.blake2b(content, digest_size=16).digest()
