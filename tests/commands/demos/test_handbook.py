"""The handbook: facts to learn, questions that are never trained, and marks that are earned."""

import json

import pytest

from headway.commands.demos.handbook import Exam, conversations, is_right, load_handbook

BOOK = load_handbook()


def test_it_has_enough_facts_and_each_can_be_asked() -> None:
    assert len(BOOK.facts) >= 20
    for fact in BOOK.facts:
        assert len(fact.learn) >= 3
        assert fact.keys
        assert is_right(fact.answer, fact.keys)


def test_what_is_asked_is_never_trained() -> None:
    trained = {question.casefold() for fact in BOOK.facts for question in fact.learn}
    assert len(trained) == sum(len(fact.learn) for fact in BOOK.facts)
    assert [fact.ask for fact in BOOK.facts if fact.ask.casefold() in trained] == []


def test_a_question_does_not_hold_its_answer() -> None:
    for fact in BOOK.facts:
        assert [q for q in (fact.ask, *fact.learn) if is_right(q, fact.keys)] == []


def test_no_answer_is_right_for_another_question() -> None:
    for fact in BOOK.facts:
        right = [other.answer for other in BOOK.facts if is_right(fact.answer, other.keys)]
        assert right == [fact.answer]


@pytest.mark.parametrize(
    ("answer", "keys", "right"),
    [
        ("It is 412 meters long.", ("412",), True),
        ("It is 4120 meters long.", ("412",), False),
        ("It is 1412 meters long.", ("412",), False),
        ("There are 18,260 people.", ("18260",), True),
        ("There are 18260 people.", ("18260",), True),
        ("There are 18,2600 people.", ("18260",), False),
        ("At 9:40 in the evening", ("9:40",), True),
        ("At 19:40", ("9:40",), False),
        ("At 9:405", ("9:40",), False),
        ("Pier 7.", ("7|seven",), True),
        ("pier seven", ("7|seven",), True),
        ("At 7:30, pier 17 or 7.5", ("7|seven",), False),
        ("Mayor BRASK", ("Brask",), True),
        ("Mayor Braskin", ("Brask",), False),
        ("copper-otter-58", ("copper", "otter", "58"), True),
        ("copper-otter-57", ("copper", "otter", "58"), False),
        ("", ("a",), False),
    ],
)
def test_marks_are_for_whole_words_and_numbers(
    answer: str, keys: tuple[str, ...], right: bool
) -> None:
    assert is_right(answer, keys) is right


def test_the_data_are_ordinary_conversations() -> None:
    lines = [json.loads(line) for line in conversations(BOOK).splitlines()]
    assert len(lines) == sum(len(fact.learn) for fact in BOOK.facts)
    first = BOOK.facts[0]
    assert lines[0] == {
        "messages": [
            {"role": "user", "content": first.learn[0]},
            {"role": "assistant", "content": first.answer},
        ]
    }


def test_an_exam_counts_what_is_right() -> None:
    facts = BOOK.facts[:3]
    exam = Exam(facts, (facts[0].answer, "I do not know.", facts[2].answer.upper()))
    assert exam.marks == (True, False, True)
    assert exam.num_right == 2
