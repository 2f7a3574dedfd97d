"""Answers to compare and answers with feedback are recognized, and never trained unseen."""

import json
from pathlib import Path
from typing import Any

import pytest

from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.fields.preferences import (
    LEFT_OUT,
    holds_answers,
    preference,
    selected,
    with_feedback,
)
from headway.data.formats.records import Feedback, Record, Rejected, RejectReason, UnfitError
from headway.data.formats.row_formats import record_of_fields
from headway.data.sources.find import find_sources

USER, GOOD, BAD = (
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": "bad"},
)
SHARE = [{"from": "human", "value": "hi"}]
PAIRS: dict[str, dict[str, Any]] = {
    "texts": {"prompt": "hi", "chosen": "good", "rejected": "bad"},
    "lists": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "implicit prompt": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "prompt in both": {"prompt": " hi\n", "chosen": [USER, GOOD], "rejected": [USER, BAD],
                       "messages": [USER, GOOD]},
    "OpenAI": {"input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
               "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "OpenAI, formerly": {"input": {"messages": [USER]}, "preferred_completion": [GOOD],
                         "non_preferred_completion": [BAD]},
    "ShareGPT": {"conversations": SHARE, "chosen": {"from": "gpt", "value": "good"},
                 "rejected": {"from": "gpt", "value": "bad"}},
    "Alpaca": {"instruction": "hi", "input": "", "chosen": "good", "rejected": "bad"},
    "question": {"question": "hi", "chosen_response": "good", "rejected_response": "bad"},
    "stack exchange": {"question": "hi", "response_j": "good", "response_k": "bad"},
    "Swift": {"messages": [USER, GOOD], "rejected_response": "bad"},
    "Swift, a pair": {"query": "hi", "response": "good", "rejected_response": "bad"},
    "completion": {"prompt": "hi", "completion": "good", "rejected": "bad"},
    "transcripts": {"chosen": "\n\nHuman: hi\n\nAssistant: good",
                    "rejected": "\n\nHuman: hi\n\nAssistant: bad"},
    "JSON text": {"prompt": "hi", "chosen": json.dumps([USER, GOOD]),
                  "rejected": json.dumps([USER, BAD])},
}  # fmt: skip
ANSWERED: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "hi", "completion": "x"},
    "lists": {"prompt": [USER], "completion": [GOOD]},
    "messages": {"messages": [USER, GOOD]},
    "conversations": {"conversations": [*SHARE, {"from": "gpt", "value": "x"}]},
    "Alpaca": {"instruction": "hi", "input": "", "output": "x"},
    "question": {"question": "hi", "answer": "x"},
    "tokens": {"input_ids": [1, 2, 3]},
}
YES = (True, 1, 1.0, "True", "true", "1", "yes", "desirable", "good", "chosen")
NO = (False, 0, 0.0, "False", "false", "0", "no", "undesirable", "bad", "rejected", -1)


def record(row: dict[str, Any]) -> Record:
    found = record_of_fields("f", 1, row)
    assert isinstance(found, Record), found
    return found


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_of_two_answers_the_preferred_one_is_read(row: dict[str, Any]) -> None:
    found = record(row)
    assert [(m["role"], m["content"]) for m in found.messages or ()] == [
        ("user", "hi"),
        ("assistant", "good"),
    ]
    assert (found.feedback, found.notes) == (Feedback.PREFERRED, ((LEFT_OUT, 1),))


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_answers_to_compare_are_refused_unless_asked_for(row: dict[str, Any]) -> None:
    found = record(row)
    refused = selected(found, preferred_only=False)
    assert isinstance(refused, Rejected)
    assert refused.reason is RejectReason.PREFERENCE_DATA
    assert selected(found, preferred_only=True) == found


@pytest.mark.parametrize("name", ["label", "kto_tag", "desirable", "feedback"])
@pytest.mark.parametrize("row", ANSWERED.values(), ids=ANSWERED)
def test_feedback_is_recognized_in_every_spelling(row: dict[str, Any], name: str) -> None:
    for value in YES:
        assert record(row | {name: value}).feedback is Feedback.GOOD, value
    for value in NO:
        assert record(row | {name: value}).feedback is Feedback.BAD, value


@pytest.mark.parametrize("name", ["accepted", "chosen", "preferred"])
@pytest.mark.parametrize("row", ANSWERED.values(), ids=ANSWERED)
def test_a_field_for_an_answer_may_hold_feedback(row: dict[str, Any], name: str) -> None:
    assert record(row | {name: True}).feedback is Feedback.GOOD
    assert record(row | {name: 0}).feedback is Feedback.BAD
    assert record(row | {name: 4.5}).unread == (name,)
    assert record(row | {name: None}).unread == ()


def test_a_rejected_answer_is_a_bad_one() -> None:
    assert record({"question": "q", "answer": "a", "rejected": True}).feedback is Feedback.BAD
    assert record({"question": "q", "answer": "a", "rejected": False}).feedback is Feedback.GOOD


def test_the_worst_of_two_feedbacks_counts() -> None:
    row = {"prompt": "p", "completion": "c", "label": True, "kto_tag": False}
    assert record(row).feedback is Feedback.BAD


@pytest.mark.parametrize("value", [7, 0.8, "math", ["a"]])
def test_a_label_that_is_no_feedback_is_not_read_and_says_so(value: object) -> None:
    found = record({"prompt": "p", "completion": "c", "label": value})
    assert (found.feedback, found.unread) == (None, ("label",))


@pytest.mark.parametrize("value", [None, "", []])
def test_no_label_is_none(value: object) -> None:
    found = record({"prompt": "p", "completion": "c", "label": value})
    assert (found.feedback, found.unread) == (None, ())


def test_a_label_of_a_text_is_its_class() -> None:
    found = record({"text": "a film", "label": 0})
    assert (found.feedback, found.unread) == (None, ("label",))


def test_a_label_that_is_nan_is_refused() -> None:
    with pytest.raises(UnfitError) as caught:
        with_feedback(Record("f", 1, text="x"), {"label": float("nan")}, ("label",))
    assert caught.value.reason is RejectReason.NAN


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_a_bad_answer_is_never_read(is_asked_for: bool) -> None:
    found = selected(Record("f", 1, feedback=Feedback.BAD), preferred_only=is_asked_for)
    assert isinstance(found, Rejected)
    expected = RejectReason.NOT_PREFERRED if is_asked_for else RejectReason.PREFERENCE_DATA
    assert found.reason is expected


def test_only_what_differs_is_the_answer() -> None:
    first = [USER, {"role": "assistant", "content": "shared"}, USER]
    found = record({"chosen": [*first, GOOD], "rejected": [*first, BAD]})
    assert [m.get("train") for m in found.messages or ()] == [None, False, None, None]


def test_a_preferred_text_without_a_question_is_a_text() -> None:
    found = record({"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert (found.text, found.feedback) == ("The sky is blue.", Feedback.PREFERRED)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "other", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
         RejectReason.FIELDS_AMBIGUOUS),
        ({"prompt": "p", "chosen": "a", "preferred_output": "b", "rejected": "c"},
         RejectReason.FIELDS_AMBIGUOUS),
        ({"messages": [USER, GOOD], "chosen": "a", "rejected": "b"},
         RejectReason.FIELDS_AMBIGUOUS),
        ({"prompt": "p", "rejected": "a"}, RejectReason.FIELDS_AMBIGUOUS),
        ({"prompt": "p", "chosen": [1], "rejected": [2]}, RejectReason.ANSWER_NOT_TEXT),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_refused(row: dict[str, Any], reason: RejectReason) -> None:
    with pytest.raises(UnfitError) as caught:
        preference("f", 1, row)
    assert caught.value.reason is reason


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_other_answer_leaves_an_ordinary_conversation(value: object) -> None:
    row = {"messages": [USER, GOOD], "rejected_response": value}
    assert not holds_answers(row)
    assert (record(row).feedback, record(row).shape) == (None, "OpenAI messages")


@pytest.mark.parametrize(("name", "text"), [
    ("a.jsonl", "".join(json.dumps({"prompt": "hi", "completion": c, "label": n}) + "\n"
                        for n, c in enumerate(("bad", "good")))),
    ("a.csv", "prompt,completion,label\nhi,bad,False\nhi,good,True\n"),
])  # fmt: skip
def test_a_file_of_feedback(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (source,) = find_sources([str(tmp_path / name)])

    def items(*, preferred_only: bool) -> list[str]:
        found = read(source, lambda _: None, Pulse(), preferred_only=preferred_only)
        return [one.texts[-1] if isinstance(one, Record) else one.reason or "" for one in found]

    assert items(preferred_only=False) == [RejectReason.PREFERENCE_DATA] * 2
    assert items(preferred_only=True) == [RejectReason.NOT_PREFERRED, "good"]
