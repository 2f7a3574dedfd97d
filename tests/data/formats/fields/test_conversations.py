"""What stands beside the turns of a conversation comes with it, or is refused."""

import json
from typing import Any

import pytest

from headway.data.formats.fields.conversations import conversation
from headway.data.formats.fields.pairs import SYSTEM_KEYS
from headway.data.formats.records import Record, RejectReason, UnfitError
from headway.data.formats.row_formats import record_of_fields

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
TOOL = {"type": "function", "function": {"name": "weather"}}
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [USER, ANSWER]},
    "conversations": {"conversations": [{"from": "human", "value": "hi"},
                                        {"from": "gpt", "value": "ho"}]},
    "pairs": {"conversation": [{"human": "hi", "assistant": "ho"}]},
    "prompt": {"prompt": "hi", "completion": "ho"},
    "prompt list": {"prompt": [USER], "completion": [ANSWER]},
    "alpaca": {"instruction": "hi", "output": "ho"},
    "input": {"input": "hi", "output": "ho"},
    "question": {"question": "hi", "answer": "ho"},
    "chosen": {"prompt": "hi", "chosen": "ho", "rejected": "no"},
}  # fmt: skip


def record(row: dict[str, Any]) -> Record:
    found = record_of_fields("f", 1, row)
    assert isinstance(found, Record), found
    return found


def reason(row: dict[str, Any]) -> RejectReason:
    with pytest.raises(UnfitError) as caught:
        conversation("f", 1, row, row["messages"], "x")
    return caught.value.reason


@pytest.mark.parametrize("name", SYSTEM_KEYS)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_system_prompt_beside_the_turns_is_the_first_turn(row: dict[str, Any], name: str) -> None:
    found = record(row | {name: "Speak like a pirate."})
    first, *others = found.messages or ()
    assert first == {"role": "system", "content": "Speak like a pirate."}
    assert tuple(others) == record(row).messages
    assert found.unread == ()


@pytest.mark.parametrize("value", [None, "", "  ", []])
def test_no_system_prompt_is_none(value: object) -> None:
    assert record({"messages": [USER, ANSWER], "system": value}).messages == (USER, ANSWER)


def test_the_same_system_prompt_twice_is_one() -> None:
    system = {"role": "system", "content": "be brief"}
    row = {"messages": [system, USER, ANSWER], "system": "be brief", "system_prompt": "be brief"}
    assert record(row).messages == (system, USER, ANSWER)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_two_system_prompts_are_refused(role: str) -> None:
    row = {"messages": [{"role": role, "content": "be brief"}, USER, ANSWER], "system": "be long"}
    assert reason(row) is RejectReason.SYSTEMS_DIFFER
    both = {"messages": [USER, ANSWER], "system": "a", "system_prompt": "b"}
    assert reason(both) is RejectReason.SYSTEMS_DIFFER


@pytest.mark.parametrize("value", [7, True, {"text": "x"}])
def test_a_system_prompt_that_is_not_text_is_refused(value: object) -> None:
    assert reason({"messages": [USER], "system": value}) is RejectReason.SYSTEM_NOT_TEXT


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [json.dumps(TOOL)]])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_tools_come_with_every_conversation(row: dict[str, Any], tools: object) -> None:
    found = record(row | {"tools": tools})
    assert found.tools == (TOOL,)
    assert found.unread == ()


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_openais_former_functions_are_tools(row: dict[str, Any]) -> None:
    assert record(row | {"functions": [{"name": "weather"}]}).tools == (TOOL,)


@pytest.mark.parametrize("tools", [None, "", [], "[]"])
def test_no_tools_are_none(tools: object) -> None:
    assert record({"messages": [USER, ANSWER], "tools": tools}).tools is None


def test_tools_that_differ_or_are_none_are_refused() -> None:
    row = {"messages": [USER, ANSWER]}
    differ = row | {"tools": [TOOL], "functions": [{"name": "other"}]}
    assert reason(differ) is RejectReason.TOOLS_DIFFER
    assert record(row | {"tools": [TOOL], "functions": [{"name": "weather"}]}).tools == (TOOL,)
    assert reason(row | {"tools": "weather"}) is RejectReason.TOOLS_NOT_A_LIST
    assert reason(row | {"tools": {"name": "weather"}}) is RejectReason.TOOLS_NOT_A_LIST


@pytest.mark.parametrize("name", ["images", "videos", "audios"])
def test_pictures_are_not_ignored(name: str) -> None:
    assert reason({"messages": [USER, ANSWER], name: ["a"]}) is RejectReason.CONTENT_NOT_TEXT
    assert record({"messages": [USER, ANSWER], name: []}).messages == (USER, ANSWER)


@pytest.mark.parametrize("key", ["messages", "conversations", "conversation"])
def test_turns_may_be_json_text(key: str) -> None:
    assert record({key: json.dumps([USER, ANSWER])}).messages == (USER, ANSWER)


def test_answers_before_the_last_one_can_be_context_only() -> None:
    turns = [USER, {**ANSWER, "train": True}, USER, ANSWER]
    found = conversation("f", 1, {}, turns, "x", 3)
    assert found.messages == (USER, {**ANSWER, "train": False}, USER, ANSWER)
