"""Syllogisms: the same curriculum each time, and no question among what is trained."""

import json
from collections import Counter

import pytest

from headway.commands.demos.syllogisms import (
    ASK,
    LEVELS,
    Curriculum,
    Syllogism,
    is_exact,
    make_curriculum,
    solve,
)


def sentences(one: Syllogism) -> frozenset[str]:
    """What a question says, in whatever order."""
    return frozenset(part.strip() for part in one.question.removesuffix(ASK).split(".") if part)


@pytest.fixture(scope="module")
def whole() -> Curriculum:
    return make_curriculum()


def test_no_question_is_among_the_rows_in_any_order_of_its_sentences(whole: Curriculum) -> None:
    trained = [sentences(row) for lesson in whole.lessons for row in lesson.rows]
    asked = [sentences(one) for one in whole.questions]
    assert len(trained) == 3 * 19_900
    assert len(set(trained)) == len(trained)
    assert len(set(asked)) == len(asked) == 200
    assert not set(trained) & set(asked)


def test_questions_are_of_all_levels_alike_and_files_review_those_before(
    whole: Curriculum,
) -> None:
    counts = Counter(one.level for one in whole.questions)
    assert counts == {"easy": 67, "medium": 67, "hard": 66}
    assert [one.level for one in whole.questions[:4]] == ["easy", "medium", "hard", "easy"]
    rows = [Counter(row.level for row in lesson.rows) for lesson in whole.lessons]
    assert rows == [
        {"easy": 19_900},
        {"easy": 3_980, "medium": 15_920},
        {"easy": 1_990, "medium": 1_990, "hard": 15_920},
    ]
    assert {row.level for row in whole.lessons[2].rows[:100]} == {"easy", "medium", "hard"}


def test_a_seed_makes_the_same_files_and_another_one_others() -> None:
    files = [
        [lesson.to_jsonl() for lesson in make_curriculum(seed, 50, 9).lessons] for seed in (7, 7, 8)
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_line_is_a_conversation_of_a_question_and_its_proof() -> None:
    lesson = make_curriculum(0, 5, 3).lessons[0]
    lines = lesson.to_jsonl().splitlines()
    assert len(lines) == 5
    question, answer = json.loads(lines[0])["messages"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert answer["content"] == solve(question["content"])


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_level_has_its_steps_and_its_people(whole: Curriculum, level: object) -> None:
    assert isinstance(level, type(LEVELS[0]))
    for one in whole.questions:
        if one.level == level.name:
            assert one.answer.count("So ") == level.num_people
            assert one.answer.count("Whoever ") == level.num_people * level.num_steps
            rules = level.num_people * level.num_steps + level.num_others
            assert one.question.count("Whoever ") == rules
    ends = [one.answer for one in whole.questions if one.level == level.name]
    assert any("never" in end for end in ends) == level.has_never


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "Whoever bakes sings. Ada bakes. What follows?",
            "Ada bakes. Whoever bakes sings. So Ada sings.",
        ),
        (
            "Whoever sings never rows. Whoever bakes sings. Ada bakes. What follows?",
            "Ada bakes. Whoever bakes sings. Whoever sings never rows. So Ada never rows.",
        ),
        (
            # What somebody never does leads no further.
            "Whoever bakes never rows. Whoever rows digs. Ada bakes. What follows?",
            "Ada bakes. Whoever bakes never rows. So Ada never rows.",
        ),
        (
            "Whoever bakes sings. Whoever digs rows. Ben digs. Ada bakes. What follows?",
            "Ben digs. Whoever digs rows. So Ben rows. "
            "Ada bakes. Whoever bakes sings. So Ada sings.",
        ),
        ("Whoever bakes sings. Ada rows. What follows?", "Ada rows. So Ada rows."),
        ("Whoever bakes sings. What follows?", ""),
        (
            "Whoever bakes sings. Whoever sings bakes. Ada bakes. What follows?",
            "Ada bakes. Whoever bakes sings. Whoever sings bakes. So Ada bakes.",
        ),
    ],
)
def test_answers_follow_from_the_question_alone(question: str, answer: str) -> None:
    assert solve(question) == answer


def test_an_answer_is_right_to_the_letter_or_not_at_all() -> None:
    question = "Whoever bakes sings. Ada bakes. What follows?"
    assert is_exact(" Ada bakes. Whoever bakes sings. So Ada sings.\n", question)
    for answer in ("So Ada sings.", "Ada bakes. Whoever bakes sings. So Ada sings", "", "yes"):
        assert not is_exact(answer, question)
