"""Exam of the inbox demo: questions of several levels, marked to the letter."""

from collections.abc import Sequence
from dataclasses import dataclass

from headway.base.units import count
from headway.commands.demos.syllogisms import LEVELS, Syllogism, is_exact

GOAL = 0.9  # of what was taught


@dataclass(frozen=True)
class LevelExam:
    """What a model answered.

    Attributes:
        after: the file that was learned last, "" before the first.
        questions: that were asked.
        answers: to them.
        taught: levels that it was taught.
    """

    after: str
    questions: tuple[Syllogism, ...]
    answers: tuple[str, ...]
    taught: tuple[str, ...]

    @property
    def marks(self) -> tuple[bool, ...]:
        """Which answers are exactly right."""
        pairs = zip(self.questions, self.answers, strict=True)
        return tuple(is_exact(answer, asked.question) for asked, answer in pairs)

    def score(self, levels: Sequence[str]) -> tuple[int, int]:
        """How many questions of these levels were answered exactly, and how many were asked."""
        pairs = zip(self.questions, self.marks, strict=True)
        marks = [mark for asked, mark in pairs if asked.level in levels]
        return sum(marks), len(marks)

    @property
    def is_passed(self) -> bool:
        """Whether enough of what was taught is answered exactly."""
        right, num = self.score(self.taught)
        return right > GOAL * num


def table(exams: Sequence[LevelExam]) -> list[str]:
    """How many questions of each level were answered exactly, a line for each exam."""
    levels = [level.name for level in LEVELS]
    rows = [["", *levels, "all"]]
    for exam in exams:
        scores = [exam.score([level]) for level in levels] + [exam.score(levels)]
        name = f"after {exam.after}" if exam.after else "before"
        rows.append([name, *(f"{right} of {num}" for right, num in scores)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def verdict(exam: LevelExam) -> str:
    """What came of it, as it was measured."""
    right, num = exam.score(exam.taught)
    share = right / num if num else 0.0
    found = f"It answers {count(right)} of {count(num)} questions exactly ({share:.0%})"
    if exam.is_passed:
        return f"{found}, none of which it was trained on."
    return f"{found}. That is not more than {GOAL:.0%}, which this demo is for: it has failed."
