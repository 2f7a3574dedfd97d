"""Answer spans: where an answer is in the rendering of a conversation that continues after it.

    asked       <|user|>Hi<|end|><|assistant|>                      what the model reads at its turn
    answered    <|user|>Hi<|end|><|assistant|>Hello!<|end|><eos>    and what it writes
    row         <|user|>Hi<|end|><|assistant|>Hello!<|end|><|user|>...

Where the row begins with `answered`, the answer is what that adds to `asked`. Templates write three
kinds of answers otherwise once more turns follow, and these are still what the model writes:

- A closing token comes only after the last turn (`<eos>` above). The answer ends with the tokens
  that both have, provided that the first token that closes it is one of them.
- An empty reasoning block, `<think></think>` without a word in it, is written only in the last
  turn. What the answer says is the same; it is located without the block, and this is noted.
- The end of an answer is the beginning of the next turn. It is the first token after the answer.

An answer that says less than it did (its reasoning was dropped), ends in another token, or follows
turns that are written otherwise is not what the model reads and writes: it is context only.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headway.data.examples.notes import ExampleNote

# What templates put around reasoning: tags and white space, without a word.
_WORDLESS = re.compile(r"\s|<[^<>\s]{1,40}>|\[/?[A-Z_]{1,20}\]")
_MARKER = re.compile(r"<\|[^<>|]{1,40}\|>")  # a special token by its looks
_LAST_MARKER = re.compile(rf"{_MARKER.pattern}\Z")
_LONGEST_MARKER = 44
_TAG_BEGIN = re.compile(r"<[^<>\s]*\Z|\[[^\[\]\s]*\Z")


@dataclass(frozen=True, slots=True)
class Located:
    """An answer in a row: characters [begin, end), and what is worth counting about it."""

    begin: int
    end: int
    notes: tuple[ExampleNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """The renderings from which an answer is located.

    Attributes:
        row: the whole conversation.
        asked: the turns before the answer, and the generation prompt.
        answered: the turns up to the answer.
        earlier: renders the turns before the answer, without a generation prompt.
        reasoning: of the answer's message; "" if it has none.
    """

    row: str
    asked: str
    answered: str
    earlier: Callable[[], str]
    reasoning: str


class SpanLocator:
    """Locates answers by what they add to a conversation.

    Args:
        special: the spellings of special tokens.
    """

    def __init__(self, special: Iterable[str]) -> None:
        self._tokens = tuple(sorted(filter(None, special), key=len, reverse=True))
        token = "|".join((*map(re.escape, self._tokens), _MARKER.pattern))
        self._token = re.compile(token)
        self._unit = re.compile(rf"{token}|\s+")
        self._longest = max([_LONGEST_MARKER, *map(len, self._tokens)])

    def locate(self, turn: Turn) -> Located | ExampleNote:
        """The answer in the row, or why it is context only."""
        row, asked, answered = turn.row, turn.asked, turn.answered
        is_exact = row.startswith(answered)
        if is_exact and answered.startswith(asked):
            return Located(len(asked), len(answered))
        earlier = turn.earlier()
        in_answered, in_row = (self._after_prompt(asked, earlier, text) for text in (answered, row))
        if in_answered is None:
            return ExampleNote.EARLIER_REWRITTEN
        if is_exact:
            return Located(in_answered, len(answered), (ExampleNote.UNPROMPTED,))
        if in_row is None:
            return ExampleNote.EARLIER_REWRITTEN
        found = self._align(answered[in_answered:], row[in_row:])
        if isinstance(found, ExampleNote):
            return (
                ExampleNote.REASONING_DROPPED
                if _lacks_reasoning(turn, in_answered, in_row)
                else found
            )
        length, has_block = found
        notes = [ExampleNote.WITHOUT_BLOCK] if has_block else []
        notes += [] if row.startswith(asked) else [ExampleNote.UNPROMPTED]
        return Located(in_row, in_row + length, tuple(notes))

    def _after_prompt(self, asked: str, earlier: str, text: str) -> int | None:
        """Where the answer begins in a text: after the generation prompt, or what it has of it.

        None: the text does not begin with the earlier turns.
        """
        if text.startswith(asked):
            return len(asked)
        least = self._common_end(earlier, text)
        if least is None:
            return None
        begin = _common_prefix_length(asked, text)
        if begin < least:
            return None
        inside_tag = _TAG_BEGIN.search(text, max(least, begin - self._longest), begin)
        return inside_tag.start() if inside_tag else begin

    def _common_end(self, rendered: str, text: str) -> int | None:
        """Where `rendered` ends in a text that may lack the tokens that close it."""
        core = self._closing_begin(rendered)
        if not text.startswith(rendered[:core]):
            return None
        for unit in self._unit.finditer(rendered, core):
            if not text.startswith(unit.group(), core):
                break
            core = unit.end()
        return core

    def _align(self, written: str, shown: str) -> tuple[int, bool] | ExampleNote:
        """How much of a row is the answer, and whether it lacks an empty block in front.

        Args:
            written: the answer at its turn.
            shown: the row from the beginning of the answer.
        """
        core = self._closing_begin(written)
        token = self._token.search(written, core)
        for begin in _block_ends(written, token.start() if token else len(written)):
            if not shown.startswith(written[begin:core]):
                continue
            end = self._common_end(written[begin:], shown)
            if end is None or (token and not shown.startswith(written[begin : token.end()])):
                return ExampleNote.OTHER_END
            return end, begin > 0
        return ExampleNote.CONTEXT_ONLY

    def _closing_begin(self, text: str) -> int:
        """Where the special tokens and white space at the end of a text begin."""
        end = len(text)
        while end:
            last = self._last_token(text, end) or (1 if text[end - 1].isspace() else 0)
            if not last:
                break
            end -= last
        return end

    def _last_token(self, text: str, end: int) -> int:
        """Characters of the special token that ends there; 0 if there is none."""
        if text.endswith(self._tokens, 0, end):
            return next(len(token) for token in self._tokens if text.endswith(token, 0, end))
        if not text.endswith("|>", 0, end):
            return 0
        marker = _LAST_MARKER.search(text, max(0, end - _LONGEST_MARKER), end)
        return len(marker.group()) if marker else 0

    def is_wordless(self, answer: str) -> bool:
        """Whether an answer is nothing but special tokens and white space."""
        return not self._closing_begin(answer)


def _block_ends(written: str, last: int) -> Iterable[int]:
    """Ends of the tags and white space in front of an answer, from none of them to all."""
    at = 0
    yield at
    while at < last and (unit := _WORDLESS.match(written, at, last)):
        at = unit.end()
        yield at


def _lacks_reasoning(turn: Turn, in_answered: int, in_row: int) -> bool:
    """Whether the reasoning of an answer is written at its turn, and not in the row."""
    written = turn.answered[in_answered:]
    shown = turn.row[in_row : in_row + len(written)]
    return bool(turn.reasoning) and turn.reasoning in written and turn.reasoning not in shown


def _common_prefix_length(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
