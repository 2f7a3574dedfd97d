"""Row formats: the fields that make a row a text, a conversation or token ids."""

import functools
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import msgspec

from headway.data.formats.records import Record, Rejected, RejectReason, UnfitError

ROLES = ("system", "user", "assistant", "developer", "tool")
DEEPEST = 50  # levels of lists and objects inside a message
_SPEAKERS = {  # ShareGPT's names for the roles
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "user": "user",
    "assistant": "assistant",
}


def record_of_fields(file: str, line: int, fields: dict[str, Any]) -> Record | Rejected:
    """Parse a row of named fields as a record, or reject it with a reason."""
    try:
        return parse_row(file, line, fields)[1]
    except UnfitError as unfit:
        return unfit.rejected(file, line)


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
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[str, int, dict[str, Any]], Record]
    also: tuple[str, ...] = ()
    turns: str = ""
    in_turns: tuple[str, ...] = ()

    @functools.cached_property
    def quoted(self) -> dict[str, bytes]:
        """All keys, and how they appear in JSON."""
        return {key: b'"%b"' % key.encode() for key in (*self.keys, *self.also)}

    @functools.cached_property
    def quoted_in_turns(self) -> tuple[bytes, ...]:
        """The keys of a message as they appear in JSON."""
        return tuple(b'"%b"' % key.encode() for key in self.in_turns)


@functools.lru_cache(256)
def shape_of(*names: str) -> RowFormat | None:
    """The format of a row with fields of these names; None if there is none."""
    matches = (shape for shape in SHAPES if all(key in names for key in shape.keys))
    return next(matches, None)


def parse_row(file: str, line: int, fields: dict[str, Any]) -> tuple[RowFormat, Record]:
    """The format of a row, and its record.

    Raises:
        UnfitError: the row is not a record.
    """
    shape = shape_of(*fields)
    if shape is None:
        keys = tuple(map(str, fields))
        raise UnfitError(RejectReason.NO_KNOWN_FIELDS, "keys: " + ", ".join(keys), keys)
    return shape, shape.read(file, line, fields)


def _text(file: str, line: int, fields: dict[str, Any]) -> Record:
    text = fields["text"]
    if not isinstance(text, str):
        raise UnfitError(RejectReason.TEXT_NOT_A_STRING, f"text: {_shorten(text)}")
    if not text or text.isspace():
        raise UnfitError(RejectReason.EMPTY_TEXT, _shorten(text))
    return Record(file, line, text=text)


def _openai(file: str, line: int, fields: dict[str, Any]) -> Record:
    return _conversation(file, line, fields["messages"], fields.get("tools"), "OpenAI messages")


def _completion(file: str, line: int, fields: dict[str, Any]) -> Record:
    """A prompt and its completion: two texts, or two lists of messages."""
    prompt, completion = fields["prompt"], fields["completion"]
    if isinstance(fields.get("label"), bool):
        raise UnfitError(
            RejectReason.PREFERENCE_DATA, "prompt, completion and a label, true or false"
        )
    if isinstance(prompt, str) and isinstance(completion, str):
        prompt = [{"role": "user", "content": prompt}]
        completion = [{"role": "assistant", "content": completion}]
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise UnfitError(RejectReason.PROMPT_NOT_TEXT, f"prompt: {_shorten(prompt)}")
    turns = [*cast("list[object]", prompt), *cast("list[object]", completion)]
    return _conversation(file, line, turns, fields.get("tools"), "prompt and completion")


def _sharegpt(file: str, line: int, fields: dict[str, Any]) -> Record:
    turns = fields["conversations"]
    if not _is_list_of_objects(turns):
        raise UnfitError(RejectReason.CONVERSATIONS_NOT_A_LIST, _shorten(turns))
    messages = [_sharegpt_message(turn) for turn in turns]
    system = fields.get("system")
    if system and isinstance(system, str) and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return _conversation(file, line, messages, fields.get("tools"), "ShareGPT conversations")


def _sharegpt_message(turn: dict[str, Any]) -> dict[str, Any]:
    if "from" not in turn:
        return turn  # some data sets have OpenAI messages under this key
    speaker, value = turn["from"], turn.get("value")
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise UnfitError(
            RejectReason.UNKNOWN_ROLE, f"{_shorten(speaker)} is not one of {', '.join(_SPEAKERS)}"
        )
    message = {name: turn[name] for name in ("train", "weight") if name in turn}
    message |= {"role": role, "content": value}
    calls = _calls(value) if speaker == "function_call" else None
    return message | {"content": None, "tool_calls": calls} if calls else message


def _calls(value: object) -> list[dict[str, Any]] | None:
    """The calls of a ShareGPT function_call in OpenAI's format; None if it is plain text."""
    calls = _from_json(value)
    calls = [calls] if isinstance(calls, dict) else calls
    if not _is_list_of_objects(calls) or not all("name" in call for call in calls):
        return None
    return [{"type": "function", "function": call} for call in calls]


def _alpaca(file: str, line: int, fields: dict[str, Any]) -> Record:
    asked = [fields["instruction"], fields.get("input") or ""]
    history = fields.get("history") or []
    pairs = [pair for pair in history if isinstance(pair, list)] if _is_list(history) else []
    if len(pairs) != len(history) or any(len(pair) != 2 for pair in pairs):
        raise UnfitError(RejectReason.HISTORY_NOT_PAIRS, f"history: {_shorten(history)}")
    if not all(isinstance(part, str) for part in asked):
        raise UnfitError(RejectReason.INSTRUCTION_NOT_TEXT, _shorten(asked))
    turns = [fields["system"]] if fields.get("system") else []
    messages = [{"role": "system", "content": text} for text in turns]
    for question, answer in [*pairs, ["\n\n".join(filter(None, asked)), fields["output"]]]:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return _conversation(file, line, messages, None, "Alpaca instructions")


def _preference(*_: object) -> Record:
    raise UnfitError(RejectReason.PREFERENCE_DATA, "a chosen and a rejected answer")


def _tokens(file: str, line: int, fields: dict[str, Any]) -> Record:
    ids, labels = fields["input_ids"], fields.get("labels")
    if not _are_ids(ids, 0):
        raise UnfitError(RejectReason.IDS_NOT_A_LIST, _shorten(ids))
    if labels is None:
        if len(ids) < 2:
            raise UnfitError(RejectReason.NO_LEARNED_LABEL, f"{len(ids)} ids")
        return Record(file, line, ids=tuple(ids), shape="tokens")
    if not _are_ids(labels, -100) or len(labels) != len(ids):
        raise UnfitError(
            RejectReason.LABELS_DO_NOT_MATCH, f"{_shorten(labels)} for {_shorten(ids)}"
        )
    if any(label not in (-100, token) for token, label in zip(ids, labels, strict=True)):
        raise UnfitError(
            RejectReason.LABELS_DO_NOT_MATCH, "a label is neither -100 nor its token id"
        )
    if all(label == -100 for label in labels[1:]):
        raise UnfitError(RejectReason.NO_LEARNED_LABEL, "every label after the first is -100")
    return Record(file, line, ids=tuple(ids), labels=tuple(labels), shape="tokens")


def _are_ids(values: object, least: int) -> bool:
    return _is_list(values) and all(type(one) is int and one >= least for one in values)


# ---- messages --------------------------------------------------------------------------------


def _conversation(file: str, line: int, turns: object, tools: object, shape: str) -> Record:
    if not _is_list_of_objects(turns) or not turns:
        raise UnfitError(RejectReason.MESSAGES_NOT_A_LIST, f"messages: {_shorten(turns)}")
    messages = tuple([_message(turn) for turn in turns])
    tools = _from_json(tools) or None
    if tools is None:
        return Record(file, line, messages=messages, shape=shape)
    if not _is_list_of_objects(tools):
        raise UnfitError(RejectReason.TOOLS_NOT_A_LIST, f"tools: {_shorten(tools)}")
    if not _is_shallow(tools, DEEPEST):
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY)
    return Record(file, line, messages=messages, tools=tuple(tools), shape=shape)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") not in ROLES:
        role = _shorten(message.get("role"))
        raise UnfitError(RejectReason.UNKNOWN_ROLE, f"{role} is not one of {', '.join(ROLES)}")
    content = message.get("content")
    if len(message) > 2 and not _is_shallow(message, DEEPEST):
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY)
    if isinstance(content, str):
        return message
    if content is None and message.get("tool_calls"):
        return {**message, "content": None}
    if not isinstance(content, list):
        raise UnfitError(RejectReason.CONTENT_NOT_TEXT, f"content: {_shorten(content)}")
    parts = [_text_part(part) for part in cast("list[object]", content)]
    return {**message, "content": "".join(parts)}


def _text_part(part: object) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            raise UnfitError(
                RejectReason.CONTENT_NOT_TEXT, f"a part of the content: {_shorten(part)}"
            )


def _from_json(value: object) -> Any:
    """Decode a value that a tool wrote as JSON text; return any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_list_of_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return _is_list(value) and set(map(type, value)) <= {dict}


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in cast("list[object]", value))


def _shorten(value: object) -> str:
    """The repr of a value, kept short however long or deep the value is."""
    short = reprlib.Repr()
    short.maxstring = 80
    return short.repr(value)


# A row is in the first of these formats whose keys it has.
SHAPES = (
    RowFormat("OpenAI messages", ("messages",), _openai, ("tools",),
              "messages", ("role", "content")),
    RowFormat("ShareGPT conversations", ("conversations",), _sharegpt, ("system", "tools"),
          "conversations", ("from", "value")),
    RowFormat("tokens", ("input_ids",), _tokens, ("labels",)),
    RowFormat("preference data", ("chosen", "rejected"), _preference),
    RowFormat("prompt and completion", ("prompt", "completion"), _completion, ("tools", "label")),
    RowFormat("Alpaca instructions", ("instruction", "output"), _alpaca,
          ("input", "system", "history")),
    RowFormat("text", ("text",), _text),
)  # fmt: skip
KEYS = frozenset(key for shape in SHAPES for key in (*shape.keys, *shape.also))
