"""Examples: the token ids of a record, and which of them count in the loss."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headway.data.examples.chat import Rendered, Template
from headway.data.examples.notes import ExampleNote
from headway.data.examples.tokenizer import Ids, Offsets, Tokenizer
from headway.data.formats.records import Record, Rejected, RejectReason

Flags = NDArray[np.bool_]
OnTokens = Callable[[int], None]

AddSpecialTokens = Literal["auto", "always", "never"]

UNTRAINED = -100  # the label of a token that is not trained

_CUT_WINDOW = 25_000  # characters searched for one place to cut a long text
_BATCH_CHARACTERS = 500_000  # encoded in one call, on all cores
_MAX_PIECE = 1_000_000  # characters of one piece; beyond it a cut may change a token
_MAX_LINE_ENDS = 8  # line ends tried per window


@dataclass(frozen=True, slots=True)
class Example:
    """The token ids of one record and which of them are trained.

    Attributes:
        ids: (T,) token ids; a text ends with the end token.
        trained: (T,) whether the model learns to predict this token; never true for the first.
        notes: one note for each thing that is worth counting.
        ends: ids of the special tokens that end what is trained.
    """

    file: str
    line: int
    ids: Ids
    trained: Flags
    notes: tuple[ExampleNote, ...] = ()
    ends: frozenset[int] = frozenset()


def _ignore(_: int) -> None:
    pass


def text_examples(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    on_tokens: OnTokens = _ignore,
    add_special_tokens: AddSpecialTokens = "auto",
) -> list[Example | Rejected]:
    """Documents as examples: BOS if the tokenizer adds one, the text's tokens, the end token.

    A part of a document has BOS only if the document starts in it, and the end token only if the
    document ends in it.

    Args:
        records: the documents.
        tokenizer: encodes them.
        add_special_tokens: "auto" adds BOS and end token unless the text itself spells them out.
        on_tokens: called with the number of new tokens as they are made.
    """
    ids: list[list[Ids]] = [[] for _ in records]
    texts = [record.text or "" for record in records]
    for pieces in _piece_batches(texts, tokenizer):
        encoded = tokenizer.encode([piece.text for piece in pieces])
        for piece, part in zip(pieces, encoded, strict=True):
            ids[piece.number].append(part)
        on_tokens(sum(map(len, encoded)))
    is_special = _special_table(tokenizer)
    return [
        _text_example(record, _concatenate(parts), tokenizer, is_special, add_special_tokens)
        for record, parts in zip(records, ids, strict=True)
    ]


def _text_example(
    record: Record, ids: Ids, tokenizer: Tokenizer, is_special: Flags, add: AddSpecialTokens
) -> Example | Rejected:
    has_bos = len(ids) > 0 and ids[0] == tokenizer.bos_id
    has_end = (record.text or "").rstrip().endswith(tuple(tokenizer.special_tokens))
    adds_bos = record.begins and tokenizer.bos_id is not None and add != "never"
    adds_end = record.ends and add != "never"
    notes: list[ExampleNote] = []
    if add == "auto" and adds_bos and has_bos:
        adds_bos = False
        notes.append(ExampleNote.BEGINS_WITH_BOS)
    if add == "auto" and adds_end and has_end:
        adds_end = False
        notes.append(ExampleNote.ENDS_WITH_END)
    if not notes and is_special[ids].any():
        notes.append(ExampleNote.MARKERS_IN_TEXT)
    bos = [tokenizer.bos_id] if adds_bos else []
    end = [tokenizer.end_id] if adds_end else []
    ids = np.concatenate([np.array(bos, np.int32), ids, np.array(end, np.int32)])
    if not len(ids):
        return Rejected(record.file, record.line, RejectReason.EMPTY_TEXT, "no tokens")
    trained = np.ones(len(ids), dtype=np.bool_)
    trained[:1] = False
    ends = _last_special(ids[1:], tokenizer) if record.ends else []
    return Example(record.file, record.line, ids, trained, tuple(notes), _known(ends))


def _special_table(tokenizer: Tokenizer) -> Flags:
    """(V,) whether an id is a special token's."""
    table = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    table[list(tokenizer.special_ids)] = True
    return table


def token_example(record: Record, vocab_size: int) -> Example | Rejected:
    """A record of token ids, unchanged: no BOS and no end token are added.

    The first token is never trained. The others are trained unless their label is -100; without
    labels all of them are.
    """
    file, line, numbers = record.file, record.line, record.ids or ()
    outside = next((n for n, one in enumerate(numbers) if not 0 <= one < vocab_size), None)
    if outside is not None:
        found = f"token {numbers[outside]} at position {outside}, ids go from 0 to {vocab_size - 1}"
        return Rejected(file, line, RejectReason.TOKEN_OUTSIDE_VOCABULARY, found)
    ids = np.array(numbers, dtype=np.int32)
    trained = np.array(record.labels or numbers, dtype=np.int64) != UNTRAINED
    trained[:1] = False
    if not trained.any():
        return Rejected(
            file, line, RejectReason.NO_LEARNED_LABEL, "every label after the first token is -100"
        )
    return Example(file, line, ids, trained)


def token_examples(
    records: Sequence[Record], vocab_size: int, on_tokens: OnTokens = _ignore
) -> list[Example | Rejected]:
    """Records of token ids as examples; `on_tokens` is called with the number of tokens."""
    made = [token_example(record, vocab_size) for record in records]
    on_tokens(sum(len(one.ids) for one in made if isinstance(one, Example)))
    return made


def chat_examples(
    records: Sequence[Record],
    tokenizer: Tokenizer,
    template: Template,
    *,
    assistant_only: bool,
    keep_empty_answers: bool = False,
    on_tokens: OnTokens = _ignore,
) -> list[Example | Rejected]:
    """Conversations as examples: the tokens that the template writes, and nothing else.

    Args:
        records: the conversations.
        tokenizer: encodes what the template writes.
        template: renders the conversations; it writes BOS itself if the model needs one.
        assistant_only: train only the answers.
        keep_empty_answers: train answers without a word instead of rejecting the conversation.
        on_tokens: called with the number of new tokens as they are made.
    """
    rendered = [
        template.render_record(
            record, assistant_only=assistant_only, keep_empty_answers=keep_empty_answers
        )
        for record in records
    ]
    texts = [one.text if isinstance(one, Rendered) else "" for one in rendered]
    ids: list[list[Ids]] = [[] for _ in records]
    offsets: list[list[Offsets]] = [[] for _ in records]
    for pieces in _piece_batches(texts, tokenizer):
        encoded = tokenizer.encode_with_offsets([piece.text for piece in pieces])
        for piece, (part, spans) in zip(pieces, encoded, strict=True):
            ids[piece.number].append(part)
            offsets[piece.number].append(spans + piece.begin if piece.begin else spans)
        on_tokens(sum(len(part) for part, _ in encoded))
    is_special = _special_table(tokenizer)
    return [
        one
        if isinstance(one, Rejected)
        else _chat_example(
            record, one, _concatenate(parts), _concatenate(spans), tokenizer, is_special
        )
        for record, one, parts, spans in zip(records, rendered, ids, offsets, strict=True)
    ]


def _chat_example(
    record: Record,
    rendered: Rendered,
    ids: Ids,
    offsets: Offsets,
    tokenizer: Tokenizer,
    is_special: Flags,
) -> Example | Rejected:
    file, line = record.file, record.line
    in_answer, ends = _in_answers(rendered, ids, offsets, tokenizer)
    trained = in_answer ^ rendered.inverted
    after_first = trained[1:] if len(ids) and ids[0] == tokenizer.bos_id else trained
    if not rendered.inverted and after_first.all() and _has_prompt(record) and len(ids):
        return Rejected(
            file,
            line,
            RejectReason.NO_UNTRAINED_TOKEN,
            "the template marks everything as an answer",
        )
    trained[:1] = False
    if not trained.any():
        return Rejected(
            file, line, RejectReason.NO_TRAINED_TOKEN, "the template does not write any answer"
        )
    if rendered.inverted:
        ends = _last_special(ids[trained], tokenizer)
    without_end = (ExampleNote.WITHOUT_END,) * ends.count(None)
    notes = (*rendered.notes, *without_end, *_marker_notes(record, ids[is_special[ids]], tokenizer))
    return Example(file, line, ids, trained, notes, _known(ends))


def _marker_notes(record: Record, special: Ids, tokenizer: Tokenizer) -> tuple[ExampleNote, ...]:
    """A note if a special token of the row is spelled out in a message."""
    spelled = [tokenizer.token_of(one) or "" for one in set(special.tolist())]
    has_marker = any(token in text for text in record.texts for token in spelled if token)
    return (ExampleNote.MARKERS_IN_MESSAGES,) if has_marker else ()


def _in_answers(
    rendered: Rendered, ids: Ids, offsets: Offsets, tokenizer: Tokenizer
) -> tuple[Flags, list[int | None]]:
    """(T,) which tokens belong to an answer, and the special token that ends each answer."""
    in_answer = np.zeros(len(ids), dtype=np.bool_)
    ends: list[int | None] = []
    for begin, end in rendered.answers:
        # a token that overlaps an answer belongs to it
        first = int(offsets[:, 1].searchsorted(begin, side="right"))
        last = int(offsets[:, 0].searchsorted(end)) - 1
        if begin < end and first <= last:
            last = _end_of_turn(first, last, rendered.text, ids, offsets, tokenizer.special_ids)
            in_answer[first : last + 1] = True
            ends.append(int(ids[last]) if ids[last] in tokenizer.special_ids else None)
    return in_answer, ends


def _known(ends: Sequence[int | None]) -> frozenset[int]:
    return frozenset(end for end in ends if end is not None)


def end_token_ids(example: Example, tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end the example's text or answers; of token ids, the last special one."""
    return example.ends or _known(_last_special(example.ids[example.trained], tokenizer))


def end_token_id(example: Example, tokenizer: Tokenizer) -> int:
    """The id that ends the example's text or last answer, or else the tokenizer's end token."""
    end = _last_special(example.ids[example.trained], tokenizer)[0]
    return tokenizer.end_id if end is None else end


def _last_special(ids: Ids, tokenizer: Tokenizer) -> list[int | None]:
    """The last special token, or None."""
    special = ids[np.isin(ids, list(tokenizer.special_ids))]
    return [int(special[-1]) if len(special) else None]


def _end_of_turn(
    first: int, last: int, text: str, ids: Ids, offsets: Offsets, special: AbstractSet[int]
) -> int:
    """The last trained token of an answer that lies in tokens [first, last].

    The end-of-turn token is trained even if it comes right after the answer. A line break that the
    template writes after it is not: generation stops before it.
    """
    token = last
    while token > first and ids[token] not in special and text[slice(*offsets[token])].isspace():
        token -= 1
    if ids[token] in special:
        return token
    return last + 1 if last + 1 < len(ids) and ids[last + 1] in special else last


def _has_prompt(record: Record) -> bool:
    return any(one["role"] != "assistant" for one in record.messages or ())


def _concatenate(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.int32)])


# ---- long texts ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    number: int  # of the text
    begin: int  # first character in the text
    text: str


def _piece_batches(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[list[_Piece]]:
    """All texts in order, as lists of pieces that each take a fraction of a second to encode."""
    batch: list[_Piece] = []
    num_characters = 0
    for number, text in enumerate(texts):
        for begin, end in itertools.pairwise(_cuts(text, tokenizer)):
            batch.append(_Piece(number, begin, text[begin:end]))
            num_characters += end - begin
            if num_characters >= _BATCH_CHARACTERS:
                yield batch
                batch, num_characters = [], 0
    if batch:
        yield batch


def _cuts(text: str, tokenizer: Tokenizer) -> list[int]:
    """Where to cut a long text, so that all cores encode it and progress is visible.

    The text is cut at a line end where that changes no token. It is also cut inside a word that
    fills a whole window, which takes some pre-tokenizers hours, and anywhere after a million
    characters.
    """
    cuts = [0]
    for at in range(_CUT_WINDOW, len(text), _CUT_WINDOW):
        cut = _safe_cut(text, at - _CUT_WINDOW, at, tokenizer)
        if cut is not None:
            cuts.append(cut)
        elif at - cuts[-1] >= _MAX_PIECE or not re.search(r"\s", text[at - _CUT_WINDOW : at]):
            cuts.append(at)
    return [*cuts, len(text)]


def _safe_cut(text: str, begin: int, end: int, tokenizer: Tokenizer) -> int | None:
    """The place after one of the last line ends in [begin, end) where a cut changes no token."""
    for _ in range(_MAX_LINE_ENDS):
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


def render_marked(example: Example, tokenizer: Tokenizer, max_characters: int = 400) -> str:
    """The example as text, shortened, with trained tokens between guillemets."""
    changes = np.flatnonzero(np.diff(example.trained)) + 1
    rendered = ""
    for begin, end in itertools.pairwise([0, *map(int, changes), len(example.ids)]):
        ids = example.ids[begin:end]
        # The first few tokens cover all characters that fit.
        text = tokenizer.decode(ids[:max_characters], special=True)
        text = _shorten(text, 160) if end - begin <= max_characters else text[:160] + " … "
        rendered += f"«{text}»" if example.trained[begin] else text
        if len(rendered) > max_characters:
            return rendered[: max_characters - 2] + " …"
    return rendered


def _shorten(text: str, max_characters: int) -> str:
    if len(text) <= max_characters:
        return text
    return f"{text[: max_characters - 40]} … {text[-40:]}"
