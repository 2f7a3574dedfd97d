"""Record -> ids and which of them are trained."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.data.chat import Rendered, Template
from headway.data.records import Record, Rejected
from headway.data.tokenizer import Ids, Offsets, Tokenizer

Flags = NDArray[np.bool_]
Tick = Callable[[int], None]

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
    """

    file: str
    line: int
    ids: Ids
    trained: Flags


def _silent(_: int) -> None:
    pass


def text_example(record: Record, tokenizer: Tokenizer) -> Example:
    """A document: its tokens and the end token.

    Before them the token that the tokenizer itself puts before a text, if it puts one.
    """
    return text_examples([record], tokenizer)[0]


def text_examples(
    records: Sequence[Record], tokenizer: Tokenizer, tick: Tick = _silent
) -> list[Example]:
    """Documents as examples; `tick` is told how many tokens are new, while it goes on."""
    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids: list[list[Ids]] = [[np.array(first, dtype=np.int32)] for _ in records]
    texts = [record.text or "" for record in records]
    for group in _groups(texts, tokenizer):
        encoded = tokenizer.encode([piece.text for piece in group])
        for piece, part in zip(group, encoded, strict=True):
            ids[piece.number].append(part)
        tick(sum(map(len, encoded)))
    end = np.array([tokenizer.end_id], dtype=np.int32)
    return [
        _all_trained(record, np.concatenate([*parts, end]))
        for record, parts in zip(records, ids, strict=True)
    ]


def _all_trained(record: Record, ids: Ids) -> Example:
    trained = np.ones(len(ids), dtype=np.bool_)
    trained[0] = False
    return Example(record.file, record.line, ids, trained)


def chat_example(
    record: Record, tokenizer: Tokenizer, template: Template, *, assistant_only: bool
) -> Example | Rejected:
    """A conversation: the tokens that its template writes, of which the answers are trained.

    Nothing is added: a template writes its own first token.
    """
    return chat_examples([record], tokenizer, template, assistant_only=assistant_only)[0]


def chat_examples(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    template: Template,
    *,
    assistant_only: bool,
    tick: Tick = _silent,
) -> list[Example | Rejected]:
    """Conversations as examples, or why not; `tick` is told how many tokens are new."""
    rendered = [template.render_record(r, assistant_only=assistant_only) for r in records]
    texts = [one.text if isinstance(one, Rendered) else "" for one in rendered]
    ids: list[list[Ids]] = [[] for _ in records]
    offsets: list[list[Offsets]] = [[] for _ in records]
    for group in _groups(texts, tokenizer):
        encoded = tokenizer.encode_with_offsets([piece.text for piece in group])
        for piece, (part, places) in zip(group, encoded, strict=True):
            ids[piece.number].append(part)
            offsets[piece.number].append(places + piece.begin)
        tick(sum(len(part) for part, _ in encoded))
    made: list[Example | Rejected] = []
    for record, one, parts, places in zip(records, rendered, ids, offsets, strict=True):
        if isinstance(one, Rejected):
            made.append(one)
            continue
        whole = np.concatenate(parts)
        trained = np.ones(len(whole), dtype=np.bool_)
        if assistant_only:
            trained = _answers(one, whole, np.concatenate(places), tokenizer)
        trained[:1] = False
        made.append(
            Example(record.file, record.line, whole, trained)
            if trained.any()
            else Rejected(record.file, record.line, "no trained token", _why_none(record))
        )
    return made


def _answers(rendered: Rendered, ids: Ids, offsets: Offsets, tokenizer: Tokenizer) -> Flags:
    """(T,) which tokens belong to an answer."""
    trained = np.zeros(len(ids), dtype=np.bool_)
    special = np.isin(ids, list(tokenizer.special_ids))
    for begin, end in rendered.answers:
        inside = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < end))
        if len(inside):
            first, last = int(inside[0]), int(inside[-1])
            trained[first : _end_of_turn(first, last, special, rendered.text, offsets) + 1] = True
    return trained


def _end_of_turn(first: int, last: int, special: Flags, text: str, offsets: Offsets) -> int:
    """The last token to train of an answer whose tokens are [first, last].

    The token that ends the turn is learned, also where it stands just behind the answer; the
    line break that a template writes after it is not: nobody reads on until there.
    """
    token = last
    while token > first and not special[token] and text[slice(*offsets[token])].isspace():
        token -= 1
    if special[token]:
        return token
    return last + 1 if last + 1 < len(special) and special[last + 1] else last


def _why_none(record: Record) -> str:
    answers = [m for m in record.messages or () if m["role"] == "assistant"]
    return "the template writes none of its answers" if answers else "no assistant message"


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
