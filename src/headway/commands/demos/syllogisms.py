"""Syllogisms: a seeded curriculum of three files, questions that are held out, and their answers.

A question names rules and people ("Whoever bakes sings. Ada bakes. What follows?"); the answer is
the proof: what somebody does, each rule that applies, one after the other, and what follows from
them ("Ada bakes. Whoever bakes sings. So Ada sings."). `solve` derives it from the question alone.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jona", "Kai", "Lena"),
    *("Max", "Nora", "Omar", "Pia", "Quin", "Rosa", "Sam", "Tara", "Uma", "Vera", "Will", "Yara"),
)
VERBS = (
    *("bakes", "sings", "farms", "drives", "paints", "sails", "dances", "teaches", "cooks"),
    *("guards", "weaves", "hunts", "fishes", "reads", "writes", "swims", "runs", "knits"),
    *("climbs", "skates", "whistles", "rides", "digs", "draws"),
)
ASK = "What follows?"
NUM_ROWS = 19_900  # of each file
NUM_QUESTIONS = 200  # of all levels together
REVIEW = 0.2  # of a file's rows: new ones of the levels before it
_NEVER = "never "
_RULE = re.compile(r"Whoever (\w+) (never )?(\w+)\.")
_FACT = re.compile(r"(?<!\w)(?!Whoever )([A-Z]\w*) (\w+)\.")


@dataclass(frozen=True)
class Level:
    """What a question is made of.

    Attributes:
        name: of the level.
        num_people: who are asked about.
        num_steps: rules that lead to what follows, for each of them.
        num_others: rules that apply to nobody.
        has_never: every other conclusion is that somebody never does something.
    """

    name: str
    num_people: int
    num_steps: int
    num_others: int
    has_never: bool = False


LEVELS = (
    Level("easy", num_people=3, num_steps=1, num_others=1),
    Level("medium", num_people=2, num_steps=2, num_others=1),
    Level("hard", num_people=1, num_steps=3, num_others=2, has_never=True),
)


@dataclass(frozen=True)
class Syllogism:
    """A question, the only right answer, and the name of its level."""

    level: str
    question: str
    answer: str


@dataclass(frozen=True)
class Lesson:
    """One file: rows of its level, and some of the levels before it."""

    name: str
    rows: tuple[Syllogism, ...]

    def to_jsonl(self) -> bytes:
        """Conversations of one question and its answer, one per line."""
        return b"".join(_conversation(row) for row in self.rows)


@dataclass(frozen=True)
class Curriculum:
    """Files to learn one after the other, and questions that are in none of them."""

    lessons: tuple[Lesson, ...]
    questions: tuple[Syllogism, ...]


def make_curriculum(
    seed: int = 0, num_rows: int = NUM_ROWS, num_questions: int = NUM_QUESTIONS
) -> Curriculum:
    """The same curriculum for the same numbers.

    No two syllogisms in it say the same, in whatever order: so no question is among the rows.

    Args:
        seed: of the random numbers.
        num_rows: of each file.
        num_questions: held out, of one level after the other.
    """
    streams = [_distinct(level, seed) for level in LEVELS]
    questions = [next(streams[at % len(streams)]) for at in range(num_questions)]
    lessons: list[Lesson] = []
    for at, level in enumerate(LEVELS):
        shares = [int(num_rows * REVIEW) // at] * at if at else []
        shares.append(num_rows - sum(shares))
        parts = zip(streams, shares, strict=False)  # the levels up to this one
        rows = [syllogism for stream, num in parts for syllogism in islice(stream, num)]
        random.Random(f"{seed} {level.name} order").shuffle(rows)  # noqa: S311 - no secret
        lessons.append(Lesson(f"{at + 1}-{level.name}.jsonl", tuple(rows)))
    return Curriculum(tuple(lessons), tuple(questions))


def solve(question: str) -> str:
    """The answer, derived from the question's sentences; "" if it names nobody.

    Rules lead from one to the next until none applies, or one says what somebody never does.
    """
    rules = {verb: (never, then) for verb, never, then in _RULE.findall(question)}
    proofs = [_proof(who, verb, rules) for who, verb in _FACT.findall(_RULE.sub("", question))]
    return " ".join(proofs)


def is_exact(answer: str, question: str) -> bool:
    """Whether an answer is the right one, to the letter; spaces around it do not count."""
    return answer.strip() == solve(question)


def _proof(who: str, verb: str, rules: dict[str, tuple[str, str]]) -> str:
    lines = [f"{who} {verb}."]
    never, seen = "", {verb}
    while verb in rules and not never:
        never, then = rules[verb]
        lines.append(f"Whoever {verb} {never}{then}.")
        verb = then
        if verb in seen:  # in a circle
            break
        seen.add(verb)
    return " ".join([*lines, f"So {who} {never}{verb}."])


def _distinct(level: Level, seed: int) -> Iterator[Syllogism]:
    """Syllogisms of a level without end, of which no two say the same."""
    draws = random.Random(f"{seed} {level.name}")  # noqa: S311 - no secret
    seen: set[frozenset[str]] = set()
    while True:
        rules, facts = _draw(level, draws)
        if (said := frozenset((*rules, *facts))) not in seen:
            seen.add(said)
            question = " ".join([*rules, *facts, ASK])
            yield Syllogism(level.name, question, solve(question))


def _draw(level: Level, draws: random.Random) -> tuple[list[str], list[str]]:
    """The rules and the facts of a question."""
    length = level.num_steps + 1
    people = draws.sample(NAMES, level.num_people)
    verbs = draws.sample(VERBS, level.num_people * length + 2 * level.num_others)
    rules: list[str] = []
    facts: list[str] = []
    for at, who in enumerate(people):
        chain = verbs[at * length : (at + 1) * length]
        facts.append(f"{who} {chain[0]}.")
        *before, end = chain
        rules += [_rule(verb, then, draws) for verb, then in pairwise(before)]
        rules.append(_rule(before[-1], end, draws, may_be_never=level.has_never))
    others = verbs[level.num_people * length :]
    rules += [_rule(*pair, draws) for pair in zip(others[::2], others[1::2], strict=True)]
    draws.shuffle(rules)
    return rules, facts


def _rule(verb: str, then: str, draws: random.Random, *, may_be_never: bool = False) -> str:
    never = _NEVER if may_be_never and draws.random() < 0.5 else ""
    return f"Whoever {verb} {never}{then}."


def _conversation(one: Syllogism) -> bytes:
    messages = [
        {"role": "user", "content": one.question},
        {"role": "assistant", "content": one.answer},
    ]
    return json.dumps({"messages": messages}).encode() + b"\n"
