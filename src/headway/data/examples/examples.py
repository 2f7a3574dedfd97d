"""Record -> ids and which of them are trained."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.data.examples.chat import Rendered, Template
from headway.data.examples.tokenizer import Ids, Offsets, Tokenizer
from headway.data.formats.records import Record, Rejected

Flags = NDArray[np.bool_]
Tick = Callable[[int], None]

UNTRAINED = -100  # the label of a token that is not learned

_STRETCH = 25_000  # characters that are searched for a place to cut a long text
_TOGETHER = 500_000  # characters that are encoded at a time, on all cores
_LONGEST = 1_000_000  # characters of one piece, even where a cut changes a token
_TRIES = 8  # line ends tried in a stretch


@dataclass(frozen=True, slots=True)
class Example:
    """The ids of one record and which of them are trained.

    Attributes:
        ids: (T,) token ids; a text ends in the end token.
        trained: (T,) whether the model learns to predict this token; never the first one.
        notes: what to count beside the tokens: one for each answer there is something to say of.
    """

    file: str
    line: int
    ids: Ids
    trained: Flags
    notes: tuple[str, ...] = ()


def _silent(_: int) -> None:
    pass


def text_examples(
    records: Sequence[Record], tokenizer: Tokenizer, tick: Tick = _silent
) -> list[Example]:
    """Documents as examples: of each its tokens and the end token.

    Before them the token that the tokenizer itself puts before a text, if it puts one. A part of
    a document has the first token only where the document begins, the last only where it ends.

    Args:
        records: the documents.
        tokenizer: makes the tokens.
        tick: told how many tokens are new, while it goes on.
    """
    nothing = np.zeros(0, dtype=np.int32)
    first = nothing if tokenizer.bos_id is None else np.array([tokenizer.bos_id], dtype=np.int32)
    end = np.array([tokenizer.end_id], dtype=np.int32)
    ids: list[list[Ids]] = [[first if record.begins else nothing] for record in records]
    texts = [record.text or "" for record in records]
    for group in _groups(texts, tokenizer):
        encoded = tokenizer.encode([piece.text for piece in group])
        for piece, part in zip(group, encoded, strict=True):
            ids[piece.number].append(part)
        tick(sum(map(len, encoded)))
    return [
        _all_but_the_first(record, np.concatenate([*parts, end if record.ends else nothing]))
        for record, parts in zip(records, ids, strict=True)
    ]


def _all_but_the_first(record: Record, ids: Ids) -> Example:
    trained = np.ones(len(ids), dtype=np.bool_)
    trained[:1] = False
    return Example(record.file, record.line, ids, trained)


def token_example(record: Record, vocab_size: int) -> Example | Rejected:
    """Tokens as they came: nothing is put before or behind them.

    The first of them is never trained; of the others those whose label is not -100, all where
    there are no labels.
    """
    file, line, numbers = record.file, record.line, record.ids or ()
    outside = next((n for n, one in enumerate(numbers) if not 0 <= one < vocab_size), None)
    if outside is not None:
        found = f"token {numbers[outside]} at position {outside}, ids go from 0 to {vocab_size - 1}"
        return Rejected(file, line, "a token outside the vocabulary", found)
    ids = np.array(numbers, dtype=np.int32)
    trained = np.array(record.labels or numbers, dtype=np.int64) != UNTRAINED
    trained[:1] = False
    if not trained.any():
        return Rejected(file, line, "no learned label", "none behind the first token")
    return Example(file, line, ids, trained)


def token_examples(
    records: Sequence[Record], vocab_size: int, tick: Tick = _silent
) -> list[Example | Rejected]:
    """Tokens as examples, or why not; `tick` is told how many are new."""
    made = [token_example(record, vocab_size) for record in records]
    tick(sum(len(one.ids) for one in made if isinstance(one, Example)))
    return made


def chat_examples(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    template: Template,
    *,
    assistant_only: bool,
    tick: Tick = _silent,
) -> list[Example | Rejected]:
    """Conversations as examples, or why not: the tokens that the template writes.

    Of these the answers are trained. Nothing is added: a template writes its own first token.
    `tick` is told how many tokens are new.
    """
    rendered = [template.render_record(r, assistant_only=assistant_only) for r in records]
    texts = [one.text if isinstance(one, Rendered) else "" for one in rendered]
    ids: list[list[Ids]] = [[] for _ in records]
    offsets: list[list[Offsets]] = [[] for _ in records]
    for group in _groups(texts, tokenizer):
        encoded = tokenizer.encode_with_offsets([piece.text for piece in group])
        for piece, (part, spots) in zip(group, encoded, strict=True):
            ids[piece.number].append(part)
            offsets[piece.number].append(spots + piece.begin if piece.begin else spots)
        tick(sum(len(part) for part, _ in encoded))
    return [
        one
        if isinstance(one, Rejected)
        else _chat_example(record, one, _joined(parts), _joined(spots), tokenizer)
        for record, one, parts, spots in zip(records, rendered, ids, offsets, strict=True)
    ]


def _chat_example(
    record: Record, rendered: Rendered, ids: Ids, offsets: Offsets, tokenizer: Tokenizer
) -> Example | Rejected:
    file, line = record.file, record.line
    trained = _answers(rendered, ids, offsets, tokenizer) ^ rendered.inverted
    after_first = trained[1:] if len(ids) and ids[0] == tokenizer.bos_id else trained
    if not rendered.inverted and after_first.all() and _has_prompt(record) and len(ids):
        return Rejected(file, line, "no untrained token", "the template takes all for an answer")
    trained[:1] = False
    if not trained.any():
        return Rejected(file, line, "no trained token", "the template writes none of its answers")
    return Example(file, line, ids, trained, rendered.notes)


def _answers(rendered: Rendered, ids: Ids, offsets: Offsets, tokenizer: Tokenizer) -> Flags:
    """(T,) which tokens belong to an answer."""
    answered = np.zeros(len(ids), dtype=np.bool_)
    for begin, end in rendered.answers:
        # a token that reaches into an answer, or out of it, belongs to it
        first = int(offsets[:, 1].searchsorted(begin, side="right"))
        last = int(offsets[:, 0].searchsorted(end)) - 1
        if begin < end and first <= last:
            last = _end_of_turn(first, last, rendered.text, ids, offsets, tokenizer.special_ids)
            answered[first : last + 1] = True
    return answered


def _end_of_turn(
    first: int, last: int, text: str, ids: Ids, offsets: Offsets, special: AbstractSet[int]
) -> int:
    """The last token of an answer whose characters are in the tokens [first, last].

    The token that ends the turn is learned, also where it stands just behind the answer; the
    line break that a template writes after it is not: nobody reads on until there.
    """
    token = last
    while token > first and ids[token] not in special and text[slice(*offsets[token])].isspace():
        token -= 1
    if ids[token] in special:
        return token
    return last + 1 if last + 1 < len(ids) and ids[last + 1] in special else last


def _has_prompt(record: Record) -> bool:
    return any(one["role"] != "assistant" for one in record.messages or ())


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def end_of(example: Example, tokenizer: Tokenizer) -> int:
    """The id that ends its text or its last answer; the tokenizer's end where none does."""
    ends = example.ids[example.trained & np.isin(example.ids, list(tokenizer.special_ids))]
    return int(ends[-1]) if len(ends) else tokenizer.end_id


# ---- long texts ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    number: int  # of the text
    begin: int  # its first character there
    text: str


def _groups(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[list[_Piece]]:
    """All texts in order, in lists that take a fraction of a second."""
    group: list[_Piece] = []
    num_characters = 0
    for number, text in enumerate(texts):
        for begin, end in itertools.pairwise(_cuts(text, tokenizer)):
            group.append(_Piece(number, begin, text[begin:end]))
            num_characters += end - begin
            if num_characters >= _TOGETHER:
                yield group
                group, num_characters = [], 0
    if group:
        yield group


def _cuts(text: str, tokenizer: Tokenizer) -> list[int]:
    """Where a text is cut: a long one goes to all cores, and tells how far it is.

    It is cut at a line's end where that changes no token; inside an endless word, which some
    pre-tokenizers would take hours for; or, after a million characters, anywhere.
    """
    cuts = [0]
    for at in range(_STRETCH, len(text), _STRETCH):
        seam = _seam(text, at - _STRETCH, at, tokenizer)
        if seam is not None:
            cuts.append(seam)
        elif at - cuts[-1] >= _LONGEST or not re.search(r"\s", text[at - _STRETCH : at]):
            cuts.append(at)
    return [*cuts, len(text)]


def _seam(text: str, begin: int, end: int, tokenizer: Tokenizer) -> int | None:
    """Behind one of the last line ends in [begin, end), where both sides stay as they are."""
    for _ in range(_TRIES):
        end = text.rfind("\n", begin + 1, end)
        if end < 0:
            return None
        if text[end - 1].isspace() or text[end + 1].isspace():
            continue
        left, right = text[max(begin, end - 64) : end + 1], text[end + 1 : end + 65]
        together, *apart = tokenizer.encode([left + right, left, right])
        if np.array_equal(together, np.concatenate(apart)):
            return end + 1
    return None


# ---- for people ------------------------------------------------------------------------------


def marked(example: Example, tokenizer: Tokenizer, longest: int = 400) -> str:
    """The example as text, what is trained between guillemets, shortened."""
    changes = np.flatnonzero(np.diff(example.trained)) + 1
    shown = ""
    for begin, end in itertools.pairwise([0, *map(int, changes), len(example.ids)]):
        ids = example.ids[begin:end]
        # few tokens are enough for the characters that are shown
        text = tokenizer.decode(ids[:longest], special=True)
        text = _shortened(text, 160) if end - begin <= longest else text[:160] + " … "
        shown += f"«{text}»" if example.trained[begin] else text
        if len(shown) > longest:
            return shown[: longest - 2] + " …"
    return shown


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest - 40]} … {text[-40:]}"
