"""A row of JSONL is a record, or rejected with a reason that groups."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.records import Record, Rejected, record_of

DEEP = b"[" * 10_000 + b"]" * 10_000
CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": "half', "not JSON"),
        (b"plain words", "not JSON"),
        (b'{"text": "a\0"}', "not JSON"),
        (b'{"text": NaN}', "not JSON"),
        (b'{"text": "\\ud800"}', "not JSON"),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"text": "caf\xe9"}', "row is not UTF-8"),
        (b'{"text": ' + DEEP + b"}", "nested too deeply"),
        (b'{"messages": [{"role": "user", "content": "x", "y": ' + b"[" * 99 + b"]" * 99 + b"}]}",
         "nested too deeply"),
        (b"[1, 2]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"text": "a", "text": "b"}', "a key twice"),
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
        (b'{"prompt": "a", "completion": 1}', "prompt and completion are not two texts"),
    ],
)  # fmt: skip
def test_F51_a_nasty_row_is_rejected_with_its_reason(row: bytes, reason: str) -> None:
    rejected = record_of("f", 2, row)
    assert isinstance(rejected, Rejected)
    assert (rejected.file, rejected.line, rejected.reason) == ("f", 2, reason)
    assert len(rejected.detail) <= 200


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


@given(st.binary(max_size=200))
def test_F51_no_row_of_bytes_crashes_the_reader(raw: bytes) -> None:
    result = record_of("f", 1, raw)
    assert isinstance(result, Record | Rejected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["text", "messages", "prompt", "tools", "x"]), JSON))
def test_F51_no_row_of_json_crashes_the_reader(row: dict[str, object]) -> None:
    result = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(result, Record | Rejected)
