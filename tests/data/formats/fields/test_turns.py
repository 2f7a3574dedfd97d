"""Turns in other tools' spellings become OpenAI's messages, with arguments as objects."""

import json
from typing import Any

import pytest

from headway.data.formats.fields.turns import NOT_ANSWERS, is_turn, message_of
from headway.data.formats.records import RejectReason, UnfitError

CALL = {"name": "weather", "arguments": {"city": "Rome"}}
AS_TEXT = {"name": "weather", "arguments": '{"city": "Rome"}'}
CALLED = [{"type": "function", "function": CALL}]


def read(turn: dict[str, Any]) -> dict[str, Any]:
    return message_of(turn, [])


@pytest.mark.parametrize(
    ("speaker", "role"),
    [("human", "user"), ("gpt", "assistant"), ("system", "system"), ("observation", "tool"),
     ("tool", "tool"), ("user", "user"), ("assistant", "assistant"), ("developer", "developer"),
     ("chatgpt", "assistant"), ("tool_response", "tool")],
)  # fmt: skip
def test_sharegpt_speakers_have_roles(speaker: str, role: str) -> None:
    assert read({"from": speaker, "value": "x"}) == {"role": role, "content": "x"}


def test_a_turn_keeps_its_other_keys() -> None:
    turn = {"from": "gpt", "value": "x", "reasoning_content": "y", "weight": 0}
    expected = {"role": "assistant", "content": "x", "reasoning_content": "y", "train": False}
    assert read(turn) == expected


def test_a_value_may_stand_under_a_role() -> None:
    assert read({"role": "user", "value": "x"}) == {"role": "user", "content": "x"}


def test_openais_former_functions_are_tools() -> None:
    assert read({"role": "function", "name": "f", "content": "21"})["role"] == "tool"
    message = read({"role": "assistant", "content": None, "function_call": AS_TEXT})
    assert message == {"role": "assistant", "content": None, "tool_calls": CALLED}


@pytest.mark.parametrize(
    "calls",
    [
        [{"type": "function", "function": AS_TEXT}],
        [{"type": "function", "function": {**CALL, "arguments": json.dumps('{"city": "Rome"}')}}],
        [{"type": "function", "function": CALL}],
        json.dumps([{"type": "function", "function": AS_TEXT}]),
        {"type": "function", "function": AS_TEXT},
    ],
)
def test_the_arguments_of_a_call_are_an_object(calls: object) -> None:
    message = read({"role": "assistant", "content": "", "tool_calls": calls})
    assert message["tool_calls"] == CALLED


def test_arguments_of_a_call_without_a_function_are_an_object_too() -> None:
    message = read({"role": "assistant", "content": "", "tool_calls": [AS_TEXT]})
    assert message["tool_calls"] == [CALL]


@pytest.mark.parametrize("arguments", ["", "  "])
def test_a_call_without_arguments_has_none(arguments: str) -> None:
    call = {"function": {"name": "now", "arguments": arguments}}
    message = read({"role": "assistant", "content": "", "tool_calls": [call]})
    assert message["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize("calls", [[], None, ""])
def test_no_calls_are_no_calls(calls: object) -> None:
    assert "tool_calls" not in read({"role": "assistant", "content": "x", "tool_calls": []})
    assert not read({"role": "assistant", "content": "x", "tool_calls": calls}).get("tool_calls")


@pytest.mark.parametrize("speaker", ["function_call", "tool_call"])
def test_a_turn_that_is_a_call(speaker: str) -> None:
    for turn in (
        {"from": speaker, "value": json.dumps(AS_TEXT)},
        {"role": speaker, "content": json.dumps(CALL)},
    ):
        message = read(turn)
        assert message == {"role": "assistant", "content": None, "tool_calls": CALLED}


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "assistant", "content": "", "tool_calls": "weather"},
         RejectReason.CALLS_NOT_A_LIST),
        ({"role": "assistant", "content": "", "tool_calls": [{"arguments": "{Rome"}]},
         RejectReason.ARGUMENTS_NOT_JSON),
        ({"role": "alien", "content": "x"}, RejectReason.UNKNOWN_ROLE),
        ({"from": 7, "value": "x"}, RejectReason.UNKNOWN_ROLE),
        ({"role": "user", "content": [{"type": "image_url"}]}, RejectReason.CONTENT_NOT_TEXT),
        ({"role": "user", "content": [{"type": "text", "text": "x", "train": False}]},
         RejectReason.FLAG_UNKNOWN),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_with_its_reason(
    turn: dict[str, Any], reason: RejectReason
) -> None:
    with pytest.raises(UnfitError) as caught:
        read(turn)
    assert caught.value.reason is reason


def test_a_question_that_is_to_be_trained_is_noted() -> None:
    notes: list[str] = []
    assert message_of({"role": "user", "content": "x", "train": True}, notes) == {
        "role": "user",
        "content": "x",
    }
    message_of({"role": "assistant", "content": "x", "train": True}, notes)
    assert notes == [NOT_ANSWERS]


def test_what_looks_like_a_turn() -> None:
    assert is_turn({"role": "user"})
    assert is_turn({"from": "gpt"})
    assert not is_turn({"text": "a"})
    assert not is_turn("role")
