"""Conversations: turns, with a system prompt and tools next to them."""

from collections import Counter
from typing import Any, cast

from headway.data.formats.fields.pairs import SYSTEM_KEYS, is_pair, turns_of_pair
from headway.data.formats.fields.turns import is_turn, message_of
from headway.data.formats.fields.values import (
    from_json,
    is_list_of_objects,
    is_missing,
    is_shallow,
    shorten,
)
from headway.data.formats.records import Record, RejectReason, UnfitError

TOOL_KEYS = ("tools", "functions")
MEDIA_KEYS = ("images", "videos", "audios")
BESIDE = (*SYSTEM_KEYS, *TOOL_KEYS, *MEDIA_KEYS)  # the turns of any conversation


def conversation(
    file: str,
    line: int,
    fields: dict[str, Any],
    turns: object,
    shape: str,
    num_context: int = 0,
) -> Record:
    """A record of turns, and of what stands next to them.

    Args:
        file: of the row.
        line: of the row.
        fields: of the row.
        turns: a list of turns, or such a list as JSON text.
        shape: the name of the row format.
        num_context: that many turns come first as context only: answers among them are not trained.

    Raises:
        UnfitError: it is not a conversation that can be trained on.
    """
    turns = from_json(turns)
    if not is_list_of_objects(turns) or not turns:
        raise UnfitError(RejectReason.MESSAGES_NOT_A_LIST, f"messages: {shorten(turns)}")
    if not num_context and not is_turn(turns[0]) and is_pair(turns[0]):
        turns = [turn for pair in turns for turn in turns_of_pair(pair)]
    noted: list[str] = []
    messages = tuple([message_of(turn, noted) for turn in turns])
    if len(fields) == 1 and not noted and not num_context:
        return Record(file, line, messages=messages, shape=shape)
    if num_context:
        messages = (*map(_as_context, messages[:num_context]), *messages[num_context:])
    notes = tuple(Counter(noted).items())
    for name in MEDIA_KEYS:
        if not is_missing(fields.get(name)):
            found = f"{name}: {shorten(fields[name])}"
            raise UnfitError(RejectReason.CONTENT_NOT_TEXT, found)
    messages = _with_system(messages, _system(fields))
    return Record(file, line, messages=messages, tools=_tools(fields), shape=shape, notes=notes)


def _as_context(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "train": False} if message["role"] == "assistant" else message


# ---- next to the turns ------------------------------------------------------------------------


def _system(fields: dict[str, Any]) -> str:
    """The system prompt next to the turns; "" if there is none."""
    found = {name: fields[name] for name in SYSTEM_KEYS if not is_missing(fields.get(name))}
    texts = {name: _system_text(name, value) for name, value in found.items()}
    texts = {name: text for name, text in texts.items() if text.strip()}
    if len(set(texts.values())) > 1:
        raise UnfitError(RejectReason.SYSTEMS_DIFFER, ", ".join(texts))
    return next(iter(texts.values()), "")


def _system_text(name: str, value: object) -> str:
    if not isinstance(value, str | list):
        raise UnfitError(RejectReason.SYSTEM_NOT_TEXT, f"{name}: {shorten(value)}")
    return message_of({"role": "system", "content": value}, [])["content"]


def _with_system(messages: tuple[dict[str, Any], ...], system: str) -> tuple[dict[str, Any], ...]:
    if not system:
        return messages
    first = messages[0]
    if first["role"] not in ("system", "developer"):
        return ({"role": "system", "content": system}, *messages)
    if (first["content"] or "").strip() != system.strip():
        found = f"{shorten(system)} next to the messages, {shorten(first['content'])} in them"
        raise UnfitError(RejectReason.SYSTEMS_DIFFER, found)
    return messages


def _tools(fields: dict[str, Any]) -> tuple[dict[str, Any], ...] | None:
    """The tools next to the turns, in OpenAI's format of today; None if there are none."""
    tools = [_tool_list("tools", fields.get("tools"))]
    legacy = _tool_list("functions", fields.get("functions"))
    tools.append([t if "function" in t else {"type": "function", "function": t} for t in legacy])
    given = [some for some in tools if some]
    if len(given) == 2 and given[0] != given[1]:
        raise UnfitError(RejectReason.TOOLS_DIFFER, "tools and functions")
    return tuple(given[0]) if given else None


def _tool_list(name: str, value: object) -> list[dict[str, Any]]:
    tools = from_json(value)
    if is_missing(tools):
        return []
    if isinstance(tools, list):
        tools = [from_json(one) for one in cast("list[object]", tools)]
    if not is_list_of_objects(tools):
        raise UnfitError(RejectReason.TOOLS_NOT_A_LIST, f"{name}: {shorten(value)}")
    if not is_shallow(tools):
        raise UnfitError(RejectReason.NESTED_TOO_DEEPLY)
    return tools
