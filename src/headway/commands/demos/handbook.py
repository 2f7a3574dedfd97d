"""Handbook of the demo: facts that no model knows, questions about them, and marks for answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("handbook.yaml")


@dataclass(frozen=True)
class Fact:
    """One thing to learn.

    Attributes:
        answer: the sentence that is trained.
        keys: words and numbers that a right answer must all hold; "6|six": one of the two.
        learn: questions that are trained with the answer.
        ask: a question that is never trained.
    """

    answer: str
    keys: tuple[str, ...]
    learn: tuple[str, ...]
    ask: str


@dataclass(frozen=True)
class Handbook:
    """All facts, and what they are about."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Exam:
    """The answers to the questions that are never trained, in the order of the facts."""

    facts: tuple[Fact, ...]
    answers: tuple[str, ...]

    @property
    def marks(self) -> tuple[bool, ...]:
        """Which answers are right."""
        pairs = zip(self.facts, self.answers, strict=True)
        return tuple(is_right(answer, fact.keys) for fact, answer in pairs)

    @property
    def num_right(self) -> int:
        """How many are."""
        return sum(self.marks)


def load_handbook() -> Handbook:
    """The handbook that comes with Headway."""
    import msgspec
    import yaml

    return msgspec.convert(yaml.safe_load(_FILE.read_text(encoding="utf-8")), Handbook)


def conversations(handbook: Handbook) -> bytes:
    """The training data, as JSONL: a conversation of one question and its answer per line."""
    import msgspec

    lines = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": fact.answer},
            ]
        }
        for fact in handbook.facts
        for question in fact.learn
    ]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def is_right(answer: str, keys: Sequence[str]) -> bool:
    """Whether an answer holds every key as a whole word or number, in any case.

    Commas between thousands do not count: 18,260 is 18260.
    """
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer.casefold())
    return all(any(_holds(plain, one) for one in key.casefold().split("|")) for key in keys)


def _holds(text: str, word: str) -> bool:
    # 7 is not in 7:30, 7.5 or 17; it is in "pier 7." and "7-year".
    return re.search(rf"(?<![\w])(?<!\d[.:]){re.escape(word)}(?!\w|[.:,]\d)", text) is not None
