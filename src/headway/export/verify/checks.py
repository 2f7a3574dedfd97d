"""Comparisons of a GGUF file in llama.cpp with the model in PyTorch, each with its outcome."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

from headway.export.gguf.splits import Splits
from headway.export.request import ExportCheck
from headway.export.verify.llama_cpp import LlamaCpp, LlamaCppError
from headway.export.verify.reference import Reference
from headway.export.verify.texts import conversations, nasty_texts, prose

POSITIONS = 64
_TOP = 5
_BEFORE = 32  # tokens before the first position
_SAME_CHOICES = 62 / 64
_CLEAR = 4.0  # times the limit, by which a first choice is ahead of the second
_REPLY_TOKENS = 64
_SHOWN_CHARACTERS = 400
# By how much log-probabilities may differ, natural logarithm: a token counts by its probability.
# llama.cpp rounds what it multiplies by weights of 16 bits and fewer: unlikely tokens show it most.
LIMITS = {
    "f32": 2e-3,
    "f16": 2e-3,
    "bf16": 0.05,
    "q8_0": 0.05,
    "q6_k": 0.1,
    "q5_k_m": 0.2,
    "q4_k_m": 0.4,
}
_FARTHEST, _FARTHEST_OF_OTHERS = {"f32": 1.0}, 20.0  # of the limit, for a single one


class Difference(StrEnum):
    """In what llama.cpp and PyTorch differ."""

    NOT_LOADED = "llama.cpp cannot load the file"
    TOKENS = "the tokens of a text differ"
    BEGINNING = "what comes before a text differs"
    TEMPLATE = "the rendered chat differs"
    CHAT_TOKENS = "the tokens of a chat differ"
    ENDS = "an end token does not end an answer"
    PROBABILITIES = "the probabilities differ"
    WEIGHTS = "the weights differ"
    ROUNDING = "the number format changes what the model answers"
    REPLY = "an answer does not end where it should"


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of one comparison.

    Attributes:
        check: as `export.json` has it.
        difference: what differs; None if nothing does.
    """

    check: ExportCheck
    difference: Difference | None = None


@dataclass
class _Tally:
    """What a comparison found so far."""

    difference: Difference
    num: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def add(self, problem: str) -> None:
        self.num += 1
        if problem:
            self.wrong.append(problem)

    def outcome(self, what: str) -> CheckOutcome:
        same = f"{self.num - len(self.wrong)} of {self.num} the same"
        detail = "; ".join((same, *self.wrong[:1]))[:_SHOWN_CHARACTERS]
        check = ExportCheck(what, passed=not self.wrong, detail=detail)
        return CheckOutcome(check, self.difference if self.wrong else None)


def compare_tokens(llama: LlamaCpp, reference: Reference, splits: Splits) -> list[CheckOutcome]:
    """Compare the ids of nasty texts, and what comes before a text."""
    tally = _Tally(Difference.TOKENS)
    before = reference.tokenizer.end_token if splits.first_space else ""  # as in a chat
    for nasty in nasty_texts(reference.tokenizer, composed=splits.composes):
        text = before + nasty
        tally.add(_first_difference(text, reference, reference.tokens(text), llama.tokens(text)))
    beginning = _Tally(Difference.BEGINNING)
    text = before + prose()
    ours, theirs = reference.text_ids(text), llama.tokens(text, begin=True)
    beginning.add(_first_difference(text, reference, ours, theirs))
    return [
        tally.outcome("tokens of texts that tokenizers cut differently"),
        beginning.outcome("tokens before a text"),
    ]


def _first_difference(
    text: str, reference: Reference, ours: Sequence[int], theirs: Sequence[int]
) -> str:
    if list(ours) == list(theirs):
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    names = [
        [reference.tokenizer.token_of(one) for one in ids[at : at + 3]] for ids in (ours, theirs)
    ]
    return f"{text[:60]!r}: from token {at + 1} on {names[0]} here, {names[1]} there"


def compare_template(stored: object, reference: Reference) -> list[CheckOutcome]:
    """Compare the chat template in the file: without one, llama.cpp takes ChatML.

    Args:
        stored: in the file's metadata; None if it has none.
        reference: of the model.
    """
    ours = reference.tokenizer.chat_template
    if stored == ours:
        return [] if ours is None else [CheckOutcome(ExportCheck("chat template", passed=True))]
    have = "has none" if stored is None else "has another one"
    if ours is None:
        have = "has one, and the model none"
    check = ExportCheck("chat template", passed=False, detail=f"the file {have}")
    return [CheckOutcome(check, Difference.TEMPLATE)]


def compare_chats(llama: LlamaCpp, reference: Reference, context: int) -> list[CheckOutcome]:
    """Compare rendered conversations as text and as tokens; nothing without a template."""
    rendering, tokens = _Tally(Difference.TEMPLATE), _Tally(Difference.CHAT_TOKENS)
    for messages in conversations():
        ours = reference.render(messages)
        if ours is None:
            continue
        try:
            theirs = llama.render(messages)
        except LlamaCppError as error:
            rendering.add(f"llama.cpp: {error}")
            continue
        without = reference.without_bos(ours)
        rendering.add(_first_character(without, theirs))
        found = llama.tokens(theirs, begin=True)
        tokens.add(_first_difference(ours, reference, reference.chat_ids(ours), found))
        is_first = rendering.num == 1  # each costs a pass through the model
        if is_first and not rendering.wrong and not tokens.wrong and len(found) + 1 < context:
            counted = llama.chat(messages, 1).num_prompt_tokens
            if counted != len(found):
                tokens.add(f"{len(found)} tokens here, {counted} of a chat there")
    if not rendering.num:
        return []
    return [rendering.outcome("rendered chats"), tokens.outcome("tokens of rendered chats")]


def _first_character(ours: str, theirs: str) -> str:
    if ours == theirs:
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    shown = [text[max(0, at - 20) : at + 40] for text in (ours, theirs)]
    return f"from character {at + 1} on {shown[0]!r} here, {shown[1]!r} there"


def compare_ends(llama: LlamaCpp, reference: Reference, end_ids: Sequence[int]) -> CheckOutcome:
    """Let each end token be chosen: the answer must be over."""
    tally = _Tally(Difference.ENDS)
    ids = reference.text_ids("Hello")
    for end in end_ids:
        found = llama.complete(ids, 3, force=end)
        token = reference.tokenizer.token_of(end)
        tally.add("" if found.ended else f"{token!r} (id {end}) does not end an answer")
    return tally.outcome("tokens that end an answer")


def probe_ids(reference: Reference, context: int) -> list[int]:
    """The tokens in which probabilities are compared: a chat, if there is a template, and prose."""
    rendered = reference.render(conversations()[0])
    ids = reference.text_ids("") if rendered is None else reference.chat_ids(rendered)
    more = reference.tokens(f"{prose()}\n" * 4)
    return [*ids, *more][: min(_BEFORE + POSITIONS, context - 1)]


@dataclass(frozen=True)
class LikelyTokens:
    """What llama.cpp finds likely.

    Attributes:
        ids: of a text.
        begin: position of the first token whose successor counts.
        tops: the log-probabilities of the most likely successors at each position, by id.
    """

    ids: tuple[int, ...]
    begin: int
    tops: tuple[Mapping[int, float], ...]


def probe(llama: LlamaCpp, reference: Reference, ids: Sequence[int]) -> LikelyTokens:
    """Ask llama.cpp for its first choices at the last positions of a text.

    Raises:
        LlamaCppError: it does not tell them.
    """
    begin = max(0, len(ids) - POSITIONS)
    word = reference.tokens("a")[-1]  # is chosen: of an end token, no probabilities are told
    tops: list[Mapping[int, float]] = []
    for number in range(begin, len(ids)):
        top = llama.complete(ids[: number + 1], 1, top=_TOP, force=word).top
        if not top:
            raise LlamaCppError(f"no probabilities after token {number + 1}")
        tops.append(top)
    return LikelyTokens(tuple(ids), begin, tuple(tops))


def compare_probabilities(
    probed: LikelyTokens, reference: Reference, quantize: str, limit: float = 0.0
) -> list[CheckOutcome]:
    """Compare the log-probabilities of llama.cpp's first choices, and which one is first.

    Args:
        probed: what llama.cpp finds likely.
        reference: the model beside it.
        quantize: the number format of the file's weights.
        limit: by how much they may differ, instead of that format's limit.
    """
    limit = limit or LIMITS[quantize]
    apart = distances(probed, reference)
    clear = [best for best in apart.best if best.ahead > _CLEAR * limit]
    same, needed = sum(best.is_same for best in clear), len(clear) * _SAME_CHOICES
    what = f"top-{_TOP} log-probabilities at {len(probed.tops)} positions"
    farthest = farthest_limit(quantize, limit)
    checks = (
        ExportCheck(what, apart.expected <= limit, apart.expected, limit, apart.where),
        ExportCheck("the farthest of them", apart.farthest <= farthest, apart.farthest, farthest),
        ExportCheck(
            f"first choices where one is clear ({len(clear)})", same >= needed, same, needed
        ),
    )
    return [CheckOutcome(one, None if one.passed else Difference.PROBABILITIES) for one in checks]


def farthest_limit(quantize: str, limit: float) -> float:
    """By how much a single log-probability may differ, where `limit` is that of all."""
    return limit * _FARTHEST.get(quantize, _FARTHEST_OF_OTHERS)


@dataclass(frozen=True)
class FirstChoice:
    """A first choice of the model.

    Attributes:
        ahead: of the second one, as a log-probability.
        is_same: as llama.cpp's.
    """

    ahead: float
    is_same: bool


@dataclass(frozen=True)
class Distances:
    """How far log-probabilities are apart.

    Attributes:
        expected: at a position, each token counted by its probability.
        farthest: of a single one.
        where: that is, for people.
        best: the first choice at each position.
    """

    expected: float
    farthest: float
    where: str
    best: tuple[FirstChoice, ...]


def distances(probed: LikelyTokens, reference: Reference) -> Distances:
    """How far those of llama.cpp are from the model's."""
    ours_TV = reference.log_probabilities(probed.ids, probed.begin)
    weighted = farthest = 0.0
    where, best = "", list[FirstChoice]()
    for ours_V, top, number in zip(ours_TV, probed.tops, count(probed.begin + 1), strict=False):
        for token, theirs in top.items():
            ours = float(ours_V[token])
            apart = math.inf if math.isnan(theirs) else abs(theirs - ours)
            weighted += math.exp(ours) * apart
            if apart > farthest:
                farthest = apart
                name = reference.tokenizer.token_of(token)
                where = f"{theirs:.4f} instead of {ours:.4f} for {name!r} after token {number}"
        first = ours_V.topk(2)
        ahead = float(first.values[0] - first.values[1])
        best.append(FirstChoice(ahead, next(iter(top)) == int(first.indices[0])))
    return Distances(weighted / len(probed.tops), farthest, where, tuple(best))


def compare_reply(
    llama: LlamaCpp, reference: Reference, end_ids: Sequence[int]
) -> list[CheckOutcome]:
    """Let it answer in a chat: it must stop by itself, where PyTorch would.

    Nothing without a template.
    """
    rendered = reference.render(conversations()[0])
    if rendered is None:
        return []
    ids = reference.chat_ids(rendered)
    written = llama.complete(ids, _REPLY_TOKENS)
    what = "an answer in a chat"
    if written.ended:
        text = reference.tokenizer.decode(written.ids)[:_SHOWN_CHARACTERS]
        return [CheckOutcome(ExportCheck(f"{what} stops by itself", passed=True, detail=text))]
    if not written.ids:
        raise LlamaCppError("no answer in a chat")
    choices: Any = reference.log_probabilities([*ids, *written.ids], len(ids) - 1).argmax(dim=-1)
    missed = [n for n, one in enumerate(choices.tolist()) if one in end_ids]
    if not missed or missed[0] >= len(written.ids):
        detail = f"neither here nor in PyTorch within {len(written.ids)} tokens"
        check = ExportCheck(f"{what} ends where it does in PyTorch", passed=True, detail=detail)
        return [CheckOutcome(check)]
    check = ExportCheck(
        f"{what} stops by itself",
        passed=False,
        detail=f"PyTorch ends it after {missed[0]} tokens, llama.cpp goes on",
    )
    return [CheckOutcome(check, Difference.REPLY)]
