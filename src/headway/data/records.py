"""One document or conversation, checked, with its file and line."""

import json
import reprlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

Kind = Literal["text", "conversations", "tokens"]

ROLES = ("system", "user", "assistant", "developer", "tool")
DEEPEST = 50  # levels of lists and objects inside a message


@dataclass(frozen=True, slots=True)
class Record:
    """One document or conversation as read, not yet tokenised.

    Exactly one of `text`, `messages` and `ids` is set.
    """

    file: str  # as the person named it, or below the folder that was named
    line: int  # 1-based, where the record begins
    text: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None  # OpenAI's shape: role, content
    tools: tuple[dict[str, Any], ...] | None = None
    ids: tuple[int, ...] | None = None  # tokenised elsewhere
    labels: tuple[int, ...] | None = None  # of `ids`: -100 is not learned; None: all are
    ends: bool = True  # False: a part of a long text file, with more after it

    @property
    def kind(self) -> Kind:
        """Whether it is a text, a conversation, or tokens already."""
        if self.messages is not None:
            return "conversations"
        return "text" if self.ids is None else "tokens"

    @property
    def texts(self) -> list[str]:
        """What it says, without roles: the text, or each message's content."""
        if self.messages is None:
            return [self.text or ""]
        return [message["content"] for message in self.messages if message["content"]]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be trained on, for `rejected.jsonl`."""

    file: str
    line: int
    reason: str  # a few words that group: "not JSON", "no text", "no trained token"
    detail: str = ""  # what was found, shortened


class _UnfitError(Exception):
    """Why a row is no record: a reason that groups, and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail[:200]


def record_of(file: str, line: int, raw: bytes) -> Record | Rejected:
    """One row of JSONL as a record, or why it is none."""
    try:
        fields = _fields(raw)
        for keys, record in SHAPES:
            if all(key in fields for key in keys):
                return record(file, line, fields)
        raise _UnfitError("no text or messages", "keys: " + ", ".join(fields))
    except _UnfitError as unfit:
        return Rejected(file, line, unfit.reason, unfit.detail)


def _fields(raw: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(raw)
        if not isinstance(fields, dict):
            raise _UnfitError("not a JSON object", _start(raw))
        twice = _twice(raw, cast("dict[str, Any]", fields))
    except RecursionError:
        raise _UnfitError("nested too deeply", _start(raw)) from None
    except UnicodeDecodeError:
        raise _UnfitError("row is not UTF-8", _start(raw)) from None
    except ValueError as error:
        raise _UnfitError("not JSON", f"{error}: {_start(raw)}") from None
    if twice:
        raise _UnfitError("a key twice", ", ".join(twice))
    return cast("dict[str, Any]", fields)


def _twice(raw: bytes, fields: dict[str, Any]) -> list[str]:
    """Keys that the row gives twice: a decoder keeps one value and loses the other."""
    if all(raw.count(b'"' + key.encode() + b'"') < 2 for key in fields):
        return []
    pairs: list[tuple[str, object]] = json.loads(raw, object_pairs_hook=list)
    return [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]


def _start(raw: bytes) -> str:
    return raw[:80].decode(errors="replace")


def _document(file: str, line: int, fields: dict[str, Any]) -> Record:
    text = fields["text"]
    if not isinstance(text, str):
        raise _UnfitError("text is not a string", f"text: {_shown(text)}")
    if not text.strip():
        raise _UnfitError("empty text", _shown(text))
    return Record(file, line, text=text)


def _conversation(file: str, line: int, fields: dict[str, Any]) -> Record:
    messages = _messages(fields["messages"])
    tools = fields.get("tools") or None
    if tools is None:
        return Record(file, line, messages=messages)
    if not _is_list_of_objects(tools):
        raise _UnfitError("tools are not a list of objects", f"tools: {_shown(tools)}")
    if not _is_shallow(tools, DEEPEST):
        raise _UnfitError("nested too deeply")
    return Record(file, line, messages=messages, tools=tuple(tools))


def _completion(file: str, line: int, fields: dict[str, Any]) -> Record:
    """A prompt and its completion: two texts, or two lists of messages."""
    prompt, completion = fields["prompt"], fields["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        prompt = [{"role": "user", "content": prompt}]
        completion = [{"role": "assistant", "content": completion}]
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise _UnfitError("prompt and completion are not two texts", f"prompt: {_shown(prompt)}")
    return Record(file, line, messages=_messages([*prompt, *completion]))


def _messages(messages: object) -> tuple[dict[str, Any], ...]:
    if not _is_list_of_objects(messages) or not messages:
        raise _UnfitError("messages are not a list of objects", f"messages: {_shown(messages)}")
    return tuple(_message(message) for message in cast("list[dict[str, Any]]", messages))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") not in ROLES:
        role = _shown(message.get("role"))
        raise _UnfitError("unknown role", f"{role} is none of {', '.join(ROLES)}")
    if not _is_shallow(message, DEEPEST):
        raise _UnfitError("nested too deeply")
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return {**message, "content": None}
    if isinstance(content, list):
        parts = [_text_part(part) for part in cast("list[object]", content)]
        return {**message, "content": "".join(parts)}
    if not isinstance(content, str):
        raise _UnfitError("content is not text", f"content: {_shown(content)}")
    return message


def _text_part(part: object) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            raise _UnfitError("content is not text", f"a part of it: {_shown(part)}")


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) for one in cast("list[object]", value)
    )


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in cast("list[object]", value))


def _shown(value: object) -> str:
    """A value for people: short, however long or deep it is."""
    shown = reprlib.Repr()
    shown.maxstring = 80
    return shown.repr(value)


# A row is read by the first line whose keys it has.
SHAPES: tuple[tuple[tuple[str, ...], Callable[[str, int, dict[str, Any]], Record]], ...] = (
    (("messages",), _conversation),
    (("prompt", "completion"), _completion),
    (("text",), _document),
)
