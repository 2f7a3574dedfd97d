"""Questions and answers are read under many names, but never by guessing."""

from typing import Any

import pytest

from headway.data.formats.fields.answers import (
    alpaca,
    answer_turns,
    completion,
    pair,
    question_turns,
)
from headway.data.formats.fields.pairs import ANSWERS, QUESTIONS
from headway.data.formats.records import Record, Rejected, RejectReason, UnfitError
from headway.data.formats.row_formats import record_of_fields

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}


def said(row: dict[str, Any]) -> list[tuple[str, str]]:
    record = record_of_fields("f", 1, row)
    assert isinstance(record, Record), record
    return [(m["role"], m["content"]) for m in record.messages or ()]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_question_and_its_answer_under_any_two_names(question: str, answer: str) -> None:
    assert said({question: "hi", answer: "ho"}) == [("user", "hi"), ("assistant", "ho")]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "a", "answer": "b", "response": "c"},
        {"question": "a", "prompt": "b", "answer": "c"},
        {"user": "a", "input": "b", "assistant": "c"},
        {"instruction": [USER], "input": "b", "output": "c"},
    ],
)
def test_two_questions_or_two_answers_are_refused(row: dict[str, Any]) -> None:
    found = record_of_fields("f", 1, row)
    assert isinstance(found, Rejected)
    assert found.reason is RejectReason.FIELDS_AMBIGUOUS


def test_an_empty_field_beside_the_question_is_none() -> None:
    assert said({"question": "a", "query": "", "answer": "b"}) == [
        ("user", "a"),
        ("assistant", "b"),
    ]


@pytest.mark.parametrize("answer", ["output", "response", "completion"])
@pytest.mark.parametrize("more", ["input", "context"])
def test_an_instruction_has_a_second_part(answer: str, more: str) -> None:
    row = {"instruction": "sum", more: "1 2", answer: "3"}
    assert said(row) == [("user", "sum\n\n1 2"), ("assistant", "3")]
    assert said(row | {more: ""}) == [("user", "sum"), ("assistant", "3")]


def test_a_context_of_anything_else_is_not_read_and_says_so() -> None:
    record = record_of_fields("f", 1, {"question": "q", "context": "c", "answer": "a"})
    assert isinstance(record, Record)
    assert record.unread == ("context",)


@pytest.mark.parametrize(
    "row", [{"instruction": "c", "output": "d"}, {"query": "c", "response": "d"}]
)
def test_earlier_questions_and_answers_come_first(row: dict[str, Any]) -> None:
    history = [["a", "b"]]
    expected = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert said(row | {"history": history}) == expected
    assert said(row | {"history": '[["a", "b"]]'}) == expected


def test_the_answers_inside_a_prompt_are_context_only() -> None:
    record = completion("f", 1, {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]})
    assert [m.get("train") for m in record.messages or ()] == [None, False, None, None]


def test_a_list_may_be_answered_by_a_text() -> None:
    assert said({"prompt": [USER], "completion": "ho"}) == [("user", "hi"), ("assistant", "ho")]


def test_text_beside_a_question_is_the_whole_record() -> None:
    record = record_of_fields("f", 1, {"text": "all", "question": "q", "answer": "a"})
    assert isinstance(record, Record)
    assert (record.text, record.unread) == ("all", ("question", "answer"))


@pytest.mark.parametrize("read", [completion, alpaca, pair])
def test_what_is_not_text_is_refused(read: Any) -> None:
    keys = ("instruction", "output") if read is alpaca else ("prompt", "completion")
    for values, reason in (
        ((7, "b"), RejectReason.QUESTION_NOT_TEXT),
        (("a", 7), RejectReason.ANSWER_NOT_TEXT),
        (("a", {"text": "b"}), RejectReason.ANSWER_NOT_TEXT),
    ):
        with pytest.raises(UnfitError) as caught:
            read("f", 1, dict(zip(keys, values, strict=True)))
        assert caught.value.reason is reason


def test_turns_of_a_question_and_of_an_answer() -> None:
    assert question_turns({"prompt": "hi"}, "prompt") == [USER]
    assert answer_turns("output", "ho") == [ANSWER]
    assert answer_turns("output", ANSWER) == [ANSWER]
