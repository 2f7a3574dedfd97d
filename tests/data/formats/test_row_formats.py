"""Rows of named fields become records of a named format, or are rejected with a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.formats.json import record_of
from headway.data.formats.records import Record, Rejected
from headway.data.formats.row_formats import FORMATS, KEYS, record_of_fields, shape_of

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": "half', "not JSON"),
        (b"plain words", "not JSON"),
        (b'{"text": "a\0"}', "not JSON"),
        (b'{"text": "a", "weight": NaN}', "NaN or infinity in a field that is read"),
        (b'{"messages": [{"role": "user", "content": "a", "n": [-Infinity]}]}',
         "NaN or infinity in a field that is read"),
        (b'{"text": "a", "score": NaN, "b": }', "not JSON"),
        (b'{"text": "a", "score": nan}', "not JSON"),
        (b'{"text": "\\ud800", "score": NaN}', "not JSON"),
        (b'[{"role": "user"}, 7]', "not a JSON object"),
        (b'{"text": NaN}', "NaN or infinity in a field that is read"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"text": "caf\xe9"}', "row is not UTF-8"),
        (b'{"text": ' + DEEP + b"}", "nested too deeply"),
        (b'{"messages": [{"role": "user", "content": "x", "y": ' + b"[" * 99 + b"]" * 99 + b"}]}",
         "nested too deeply"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"text": "a", "text": "b"}', "a key twice"),
        (b'{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}', "a key twice"),
        (b'{"conversations": [{"from": "gpt", "value": "a", "value": "b"}]}', "a key twice"),
        (b'{"input_ids": [1, 2], "input_ids": [1, 3]}', "a key twice"),
        (b"{}", "no text or messages"),
        (b'{"foo": "bar"}', "no text or messages"),
        (b'{"text": ["a"]}', "text is not a string"),
        (b'{"text": 7}', "text is not a string"),
        (b'{"text": null}', "text is not a string"),
        (b'{"text": "  "}', "empty text"),
        (b'{"messages": []}', "messages are not a list of objects"),
        (b'{"messages": "hi"}', "messages are not a list of objects"),
        (b'{"messages": [["hi"]]}', "messages are not a list of objects"),
        (b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}", "messages are not a list of objects"),
        (b'{"messages": [{"role": "human", "content": "hi"}]}', "unknown role"),
        (b'{"messages": [{"content": "hi"}]}', "unknown role"),
        (b'{"messages": [{"role": "user"}]}', "content is not text"),
        (b'{"messages": [{"role": "user", "content": {"a": 1}}]}', "content is not text"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
         "content is not text"),
        (b'{"messages": [{"role": "user", "content": "a"}], "tools": "t"}',
         "tools are not a list of objects"),
        (b'{"prompt": "a", "completion": 1}', "the answer is not text"),
        (b'{"conversations": "hi"}', "messages are not a list of objects"),
        (b'{"conversations": [{"from": "alien", "value": "hi"}]}', "unknown role"),
        (b'{"conversations": [{"from": ["gpt"], "value": "hi"}]}', "unknown role"),
        (b'{"conversations": [{"from": "gpt"}]}', "content is not text"),
        (b'{"instruction": "a", "output": 1}', "the answer is not text"),
        (b'{"instruction": 1, "output": "b"}', "the question is not text"),
        (b'{"instruction": "a", "output": "b", "history": [["c"]]}',
         "history is not a list of pairs"),
        (b'{"instruction": "a", "output": "b", "history": "c"}',
         "history is not a list of pairs"),
        (b'{"input_ids": "1 2"}', "input_ids are not a list of token ids"),
        (b'{"input_ids": [1, 2.0]}', "input_ids are not a list of token ids"),
        (b'{"input_ids": [true, false]}', "input_ids are not a list of token ids"),
        (b'{"input_ids": [1, -100]}', "input_ids are not a list of token ids"),
        (b'{"input_ids": [1]}', "no learned label"),
        (b'{"input_ids": []}', "no learned label"),
        (b'{"input_ids": [1, 2], "labels": [1]}', "labels do not fit input_ids"),
        (b'{"input_ids": [1, 2], "labels": [1, 3]}', "labels do not fit input_ids"),
        (b'{"input_ids": [1, 2], "labels": [1, -1]}', "labels do not fit input_ids"),
        (b'{"input_ids": [1, 2], "labels": "x"}', "labels do not fit input_ids"),
        (b'{"input_ids": [1, 2, 3], "labels": [1, -100, -100]}', "no learned label"),
    ],
)  # fmt: skip
def test_F51_a_nasty_row_is_rejected_with_its_reason(row: bytes, reason: str) -> None:
    rejected = record_of("f", 2, row)
    assert isinstance(rejected, Rejected)
    assert (rejected.file, rejected.line, rejected.reason) == ("f", 2, reason)
    assert len(rejected.detail) <= 200


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "[1, NaN]", '{"a": NaN}'])
def test_a_field_that_nothing_reads_may_hold_nan(value: str) -> None:
    record = record_of("f", 1, b'{"text": "NaN \\" NaN", "score": %b}' % value.encode())
    assert isinstance(record, Record)
    assert (record.text, record.unread) == ('NaN " NaN', ("score",))


@pytest.mark.parametrize("row", [CHAT["messages"], {"messages": json.dumps(CHAT["messages"])}])
def test_turns_may_be_the_whole_row_or_json_text(row: object) -> None:
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)
    assert record.messages == tuple(CHAT["messages"])


def test_nulls_that_a_column_needs_are_dropped() -> None:
    tool = {"function": {"name": "f", "parameters": {"a": {"type": "string", "enum": None}}}}
    row = {
        "messages": [{**CHAT["messages"][1], "tool_calls": None, "weight": None}],
        "tools": [tool],
    }
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)
    assert record.messages == (CHAT["messages"][1],)
    parameters = {"a": {"type": "string"}}
    assert record.tools == ({"function": {"name": "f", "parameters": parameters}},)


def test_a_key_inside_a_string_or_a_part_is_not_given_twice() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {"text": 'say "text" twice', "messages": [{"role": "user", "content": parts}]}
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)


@pytest.mark.parametrize(
    ("row", "contents"),
    [
        (CHAT, ["hi", "ho"]),
        ({"prompt": "hi", "completion": "ho"}, ["hi", "ho"]),
        ({"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}, ["hi", "ho"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]},
            ["aa"],
        ),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, [None]),
        (
            {"messages": [{"role": r, "content": r} for r in ("system", "developer", "tool")]},
            ["system", "developer", "tool"],
        ),
    ],
)
def test_shapes_of_conversations(row: dict[str, object], contents: list[str | None]) -> None:
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)
    assert record.kind == "conversations"
    assert [message["content"] for message in record.messages or ()] == contents


def test_tools_come_with_the_conversation() -> None:
    record = record_of("f", 1, json.dumps(CHAT | {"tools": [{"type": "function"}]}).encode())
    assert isinstance(record, Record)
    assert record.tools == ({"type": "function"},)


@pytest.mark.parametrize(
    ("row", "shape", "messages"),
    [
        (CHAT | {"id": 7}, "OpenAI messages", [("user", "hi"), ("assistant", "ho")]),
        (
            {"prompt": "hi", "completion": "ho"},
            "prompt and completion",
            [("user", "hi"), ("assistant", "ho")],
        ),
        (
            {
                "system": "be",
                "conversations": [
                    {"from": "human", "value": "hi"},
                    {"from": "gpt", "value": "ho"},
                    {"from": "observation", "value": "it rains"},
                ],
            },
            "ShareGPT conversations",
            [("system", "be"), ("user", "hi"), ("assistant", "ho"), ("tool", "it rains")],
        ),
        (
            {"conversations": CHAT["messages"]},
            "ShareGPT conversations",
            [("user", "hi"), ("assistant", "ho")],
        ),
        (
            {"instruction": "sum", "input": "1 2", "output": "3", "text": "all of it"},
            "Alpaca instructions",
            [("user", "sum\n\n1 2"), ("assistant", "3")],
        ),
        (
            {
                "instruction": "c",
                "input": "",
                "output": "d",
                "system": "s",
                "history": [["a", "b"]],
            },
            "Alpaca instructions",
            [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        ),
    ],
)
def test_every_shape_of_a_conversation_becomes_messages_and_is_named(
    row: dict[str, Any], shape: str, messages: list[tuple[str, str]]
) -> None:
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)
    assert record.shape == shape
    named = shape_of(*row)
    assert named is not None
    assert named.name == shape
    assert [(m["role"], m["content"]) for m in record.messages or ()] == messages


def test_a_function_that_sharegpt_calls_is_a_tool_call() -> None:
    call = {"name": "weather", "arguments": {"city": "Bern"}}
    row = {
        "conversations": [
            {"from": "human", "value": "rain?"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "no"},
            {"from": "function_call", "value": "not JSON"},
        ],
        "tools": json.dumps([{"name": "weather"}]),
    }
    record = record_of_fields("f", 1, row)
    assert isinstance(record, Record)
    assert record.tools == ({"name": "weather"},)
    _, called, _, said = record.messages or ()
    assert called["tool_calls"] == [{"type": "function", "function": call}]
    assert (called["content"], said["content"], said["role"]) == (None, "not JSON", "assistant")


def test_a_turn_that_is_not_to_be_trained_keeps_its_mark_in_every_shape() -> None:
    marked = {"role": "assistant", "content": "ho", "train": False}
    openai = record_of_fields("f", 1, {"messages": [marked]})
    turn = {"from": "gpt", "value": "ho", "weight": 0}
    sharegpt = record_of_fields("f", 1, {"conversations": [turn]})
    assert isinstance(openai, Record)
    assert isinstance(sharegpt, Record)
    assert (openai.messages or ())[0]["train"] is False
    assert (sharegpt.messages or ())[0]["train"] is False


def test_tokens_come_as_they_are() -> None:
    record = record_of("f", 1, b'{"input_ids": [5, 6, 7], "labels": [-100, 6, -100], "text": "x"}')
    assert record == Record("f", 1, ids=(5, 6, 7), labels=(-100, 6, -100))
    assert isinstance(record, Record)
    assert (record.kind, record.shape) == ("tokens", "tokens")


def test_D05_keys_beside_the_known_ones_do_not_matter_even_twice() -> None:
    record = record_of("f", 1, b'{"text": "a", "meta": {"text": "b"}, "id": 1, "id": 2}')
    assert record == Record("f", 1, text="a")


@given(st.binary(max_size=200))
def test_F51_no_row_of_bytes_crashes_the_reader(raw: bytes) -> None:
    result = record_of("f", 1, raw)
    assert isinstance(result, Record | Rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


NAMES = sorted({*KEYS, "x"})


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_F51_no_row_of_json_crashes_the_reader(row: dict[str, object]) -> None:
    result = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(result, Record | Rejected)


def test_every_row_on_the_page_about_data_is_what_the_page_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    rows = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    records = [record_of("data.md", 1, row.encode()) for row in rows]
    shapes = [one.shape if isinstance(one, Record) else one.reason for one in records]
    taught = [shape.name for shape in FORMATS if shape.name != "preference data"]
    assert shapes == taught


def test_a_detail_stays_short_however_large_the_value_is() -> None:
    rejected = record_of_fields("f", 1, {"text": {"a" * 10_000: ["b" * 10_000] * 10_000}})
    assert isinstance(rejected, Rejected)
    assert len(rejected.detail) <= 200


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (("text", "messages"), "OpenAI messages"),
        (("text", "input_ids"), "tokens"),
        (("prompt", "chosen", "rejected", "completion"), "preference data"),
        (("messages", "chosen", "rejected"), "preference data"),
        (("input", "preferred_output", "non_preferred_output"), "preference data"),
        (("text", "rejected"), "text"),
        (("text", "question", "answer"), "text"),
        (("instruction", "input", "output"), "Alpaca instructions"),
        (("input", "output"), "question and answer"),
        (("question",), None),
        (("answer",), None),
        (("instruction",), None),
        (("prompt",), None),
        ((), None),
    ],
)
def test_a_row_has_the_first_format_whose_keys_it_has(
    names: tuple[str, ...], shape: str | None
) -> None:
    found = shape_of(*names)
    assert (found and found.name) == shape
