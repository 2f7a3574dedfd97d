"""The exam: what counts as passed, and the table of all exams."""

import pytest

from headway.commands.demos.level_exam import LevelExam, table, verdict
from headway.commands.demos.syllogisms import make_curriculum

SMALL = make_curriculum(0, 6, 6)


@pytest.mark.parametrize(("num_right", "passed"), [(180, False), (181, True)])
def test_more_than_nine_of_ten_pass(num_right: int, passed: bool) -> None:
    questions = make_curriculum(0, 1, 200).questions
    answers = [one.answer if at < num_right else "" for at, one in enumerate(questions)]
    exam = LevelExam("3-hard.jsonl", questions, tuple(answers), ("easy", "medium", "hard"))
    assert exam.is_passed is passed
    assert ("it has failed" in verdict(exam)) is not passed


def test_what_was_not_taught_yet_does_not_count() -> None:
    questions = SMALL.questions
    answers = tuple(one.answer if one.level == "easy" else "" for one in questions)
    assert LevelExam("1-easy.jsonl", questions, answers, ("easy",)).is_passed
    assert not LevelExam("2-medium.jsonl", questions, answers, ("easy", "medium")).is_passed
    assert not LevelExam("", questions, answers, ()).is_passed


def test_a_table_line_for_each_exam() -> None:
    questions = SMALL.questions
    right = tuple(one.answer for one in questions)
    exams = [
        LevelExam("", questions, ("",) * 6, ()),
        LevelExam("1-easy.jsonl", questions, right, ("easy",)),
    ]
    assert table(exams) == [
        "                      easy  medium    hard     all",
        "before              0 of 2  0 of 2  0 of 2  0 of 6",
        "after 1-easy.jsonl  2 of 2  2 of 2  2 of 2  6 of 6",
    ]
