"""Question and answer fields are found by their names, and pairs become turns."""

from typing import Any

import pytest

from headway.data.formats.fields.pairs import (
    ANSWERS,
    QUESTIONS,
    answer_key,
    is_pair,
    question_key,
    question_keys,
    question_text,
    second_parts,
    turns_of_pair,
)
from headway.data.formats.records import Record, RejectReason, UnfitError
from headway.data.formats.row_formats import record_of_fields


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_question_and_any_answer(question: str, answer: str) -> None:
    fields = {question: "hi", answer: "ho", "id": 1}
    assert (question_key(fields), answer_key(fields)) == (question, answer)
    assert list(turns_of_pair(fields)) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho", "id": 1},
    ]


def test_an_instruction_has_a_second_part_and_a_question_has_none() -> None:
    assert question_keys(("question", "context")) == ("question",)
    assert question_keys(("instruction", "context")) == ("instruction", "context")
    assert question_key({"instruction": "a", "input": "b"}) == "instruction"


@pytest.mark.parametrize(
    "fields",
    [{"human": "a"}, {"assistant": "b"}, {"human": "a", "query": "b", "assistant": "c"},
     {"human": "a", "gpt": "b", "assistant": "c"}],
)  # fmt: skip
def test_no_guess_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(UnfitError) as caught:
        list(turns_of_pair(fields))
    assert caught.value.reason is RejectReason.FIELDS_AMBIGUOUS


def test_the_second_part_belongs_to_the_question() -> None:
    fields = {"instruction": "sum", "input": "1 2", "output": "3"}
    assert is_pair(fields)
    assert second_parts("instruction") == ("input", "context")
    assert question_text(fields, "instruction") == "sum\n\n1 2"
    assert list(turns_of_pair(fields)) == [
        {"role": "user", "content": "sum\n\n1 2"},
        {"role": "assistant", "content": "3"},
    ]


@pytest.mark.parametrize("key", ["conversation", "conversations", "messages"])
def test_a_conversation_of_pairs(key: str) -> None:
    pairs = [
        {"system": "be brief", "input": "a", "output": "b", "output_with_loss": False},
        {"input": "c", "output": "d"},
        {"input": "", "output": "e"},
    ]
    record = record_of_fields("f", 1, {key: pairs})
    assert isinstance(record, Record)
    assert record.messages == (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "train": False},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "assistant", "content": "e"},
    )
