"""Turns of a conversation: other tools' spellings become messages as in OpenAI's API."""

from typing import Any, cast

from headway.data.formats.fields.turn_flags import flag_names, with_one_flag
from headway.data.formats.fields.values import (
    from_json,
    is_list_of_objects,
    is_missing,
    is_shallow,
    shorten,
)
from headway.data.formats.records import RejectReason, UnfitError

ROLES = ("system", "user", "assistant", "developer", "tool")
_CALLS = ("function_call", "tool_call")  # speakers whose text is a call, as JSON
_OTHER_ROLES = {  # beside OpenAI's own of today
    "function": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool_response": "tool",
    "observation": "tool",
}
_SPEAKERS = {  # ShareGPT's names for the roles
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "user": "user",
    "assistant": "assistant",
    "developer": "developer",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_response": "tool",
    "tool_call": "assistant",
    "tool_response": "tool",
}
_TEXT_PARTS = ("text", "input_text", "output_text")
NOT_ANSWERS = "messages marked as trained that are not the assistant's"


def message_of(turn: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """A turn as a message with a role, a content, and `train: false` if it is not trained.

    Args:
        turn: of a conversation.
        notes: what is worth counting is added to it.

    Raises:
        UnfitError: it is not a message that can be trained on.
    """
    content = turn.get("content")
    if len(turn) == 2 and isinstance(content, str) and turn.get("role") in ROLES:
        return turn
    if not is_shallow(turn):
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY)
    message = _with_calls(_with_role(with_one_flag(turn)))
    if message.get("train") is True:
        if message["role"] != "assistant":
            notes.append(NOT_ANSWERS)
        del message["train"]
    content = message.get("content")
    if isinstance(content, str):
        return message
    if content is None and message.get("tool_calls"):
        return {**message, "content": None}
    if not isinstance(content, list):
        raise UnfitError(RejectReason.CONTENT_NOT_TEXT, f"content: {shorten(content)}")
    parts = [_text_part(part) for part in cast("list[object]", content)]
    return {**message, "content": "".join(parts)}


def is_turn(value: object) -> bool:
    """Whether a value looks like a turn of a conversation."""
    return isinstance(value, dict) and not value.keys().isdisjoint(("role", "from"))


def _with_role(turn: dict[str, Any]) -> dict[str, Any]:
    is_sharegpt = "from" in turn and "role" not in turn
    names = _SPEAKERS if is_sharegpt else _OTHER_ROLES
    speaker = turn.get("from" if is_sharegpt else "role")
    if not is_sharegpt and speaker in ROLES and "value" not in turn:
        return turn
    known = speaker if not is_sharegpt and speaker in ROLES else None
    role = known or (names.get(speaker) if isinstance(speaker, str) else None)
    if role is None:
        known_names = ", ".join(_SPEAKERS if is_sharegpt else ROLES)
        raise UnfitError(
            RejectReason.UNKNOWN_ROLE, f"{shorten(speaker)} is not one of {known_names}"
        )
    message = {name: value for name, value in turn.items() if name not in ("from", "value")}
    content = turn["content"] if "content" in turn else turn.get("value")
    message |= {"role": role, "content": content}
    calls = _calls_in_text(content) if speaker in _CALLS else None
    return message | {"content": None, "tool_calls": calls} if calls else message


def _calls_in_text(value: object) -> list[dict[str, Any]] | None:
    """The calls of a turn that is a call, in OpenAI's format; None if it is plain text."""
    calls = from_json(value)
    calls = [calls] if isinstance(calls, dict) else calls
    if not is_list_of_objects(calls) or not all("name" in call for call in calls):
        return None
    return [{"type": "function", "function": call} for call in calls]


def _with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """A message with its calls as a list, and with their arguments as objects."""
    if "tool_calls" not in message and "function_call" not in message:
        return message
    legacy = from_json(message.get("function_call"))
    calls = from_json(message.get("tool_calls"))
    if is_missing(legacy) and calls is None:
        return message
    message = {name: message[name] for name in message if name != "function_call"}
    if not is_missing(legacy):
        calls = [{"type": "function", "function": legacy}, *(calls or [])]
    if is_missing(calls):
        del message["tool_calls"]
        return message
    calls = [calls] if isinstance(calls, dict) else calls
    if not is_list_of_objects(calls):
        raise UnfitError(RejectReason.CALLS_NOT_A_LIST, f"tool_calls: {shorten(calls)}")
    return {**message, "tool_calls": [_with_arguments(call) for call in calls]}


def _with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if isinstance(function, dict):
        return {**call, "function": _with_arguments(cast("dict[str, Any]", function))}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    decoded = from_json(arguments) if arguments.strip() else {}
    if isinstance(decoded, str) and decoded != arguments:  # encoded twice
        decoded = from_json(decoded)
    if isinstance(decoded, str):
        raise UnfitError(RejectReason.ARGUMENTS_NOT_JSON, f"arguments: {shorten(arguments)}")
    if not is_shallow(decoded):
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY)
    return {**call, "arguments": decoded}


def _text_part(part: object) -> str:
    match part:
        case {"type": kind, "text": str(text)} if kind in _TEXT_PARTS:
            fields = cast("dict[str, Any]", part)
            if flag_names(*fields) and with_one_flag(fields).get("train") is False:
                raise UnfitError(
                    RejectReason.FLAG_UNKNOWN, f"a part that is not trained: {shorten(part)}"
                )
            return text
        case _:
            raise UnfitError(
                RejectReason.CONTENT_NOT_TEXT, f"a part of the content: {shorten(part)}"
            )
