"""Preferences: answers to compare, and answers with feedback."""

import re
from dataclasses import replace
from typing import Any, cast

from headway.data.formats.fields.answers import answer_turns, question_turns
from headway.data.formats.fields.conversations import conversation
from headway.data.formats.fields.pairs import QUESTIONS, answer_key, question_key
from headway.data.formats.fields.turns import is_turn
from headway.data.formats.fields.values import (
    as_flag,
    from_json,
    has_nan,
    is_list,
    is_missing,
    shorten,
)
from headway.data.formats.records import Feedback, Record, Rejected, RejectReason, UnfitError


def _names(*words: str) -> tuple[str, ...]:
    kinds = ("output", "completion", "response", "answer", "messages", "conversations", "text")
    both = [(f"{word}_{kind}", f"{kind}_{word}") for word in words for kind in kinds]
    return (*words, *(name for pair in both for name in pair))


PREFERRED = (*_names("chosen", "preferred", "accepted", "winner"), "response_j")
OTHERS = (
    *_names("rejected", "non_preferred", "nonpreferred", "dispreferred", "loser"),
    "response_k",
)
TURNS = ("messages", "conversations")
FEEDBACK = (
    *("label", "kto_tag", "feedback", "desirable", "is_desirable", "is_preferred"),
    *("chosen", "preferred", "accepted", "rejected"),  # if true or false
)
LEFT_OUT = "answers left out: another one is preferred"
_GOOD = ("good", "desirable", "chosen", "preferred", "positive", "accepted", "up", "thumbs_up")
_BAD = ("bad", "undesirable", "rejected", "dispreferred", "negative", "down", "thumbs_down")
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def preference(file: str, line: int, fields: dict[str, Any]) -> Record:
    """The preferred one of several answers, with what comes before it.

    Raises:
        UnfitError: there is no single preferred answer, or none that can be trained on.
    """
    if isinstance(fields.get("input"), dict):  # OpenAI's: messages, tools
        fields = {name: fields[name] for name in fields if name != "input"} | fields["input"]
    answers = [name for name in PREFERRED if _is_answer(fields.get(name))]
    others = [name for name in OTHERS if _is_answer(fields.get(name))]
    if len(answers) > 1:
        raise UnfitError(RejectReason.FIELDS_AMBIGUOUS, " or ".join(answers))
    asked = _asked(fields)
    if not answers and others and not any(name in fields for name in TURNS):
        answers = [answer_key(fields)]
    if answers:
        shared = fields[others[0]] if others else None
        asked, told = _preferred(asked, answers[0], fields[answers[0]], shared)
    else:  # what is not preferred stands beside an ordinary conversation
        asked, told = asked[:-1], asked[-1:]
    turns = [*asked, *told]
    if len(turns) == 1 and isinstance(turns[0], str):
        record = Record(file, line, text=turns[0], shape="preference data")
    else:
        record = conversation(file, line, fields, turns, "preference data", len(asked))
    notes = (*record.notes, (LEFT_OUT, len(others))) if others else record.notes
    return replace(record, notes=notes, feedback=Feedback.PREFERRED)


def with_feedback(record: Record, fields: dict[str, Any], names: tuple[str, ...]) -> Record:
    """A record with what its row says about its answer.

    Args:
        record: of the row.
        fields: of the row.
        names: of the fields that may say it.

    Raises:
        UnfitError: a field is NaN.
    """
    for name in names:
        value = fields[name]
        if has_nan(value):
            raise UnfitError(RejectReason.NAN, name)
        is_good = _is_good(value)
        if is_good is not None:
            is_good ^= name == "rejected"
            kind = Feedback.GOOD if is_good else Feedback.BAD
            record = replace(record, feedback=min(record.feedback or kind, kind))
        elif not is_missing(value):
            record = replace(record, unread=(*record.unread, name))
    return record


def selected(record: Record, *, preferred_only: bool) -> Record | Rejected:
    """A record whose answers need no comparison; a preferred one only if that was asked for."""
    if record.feedback is None:
        return record
    reason = None if preferred_only else RejectReason.PREFERENCE_DATA
    if preferred_only and record.feedback is Feedback.BAD:
        reason = RejectReason.NOT_PREFERRED
    return Rejected(record.file, record.line, reason, record.feedback.detail) if reason else record


def holds_answers(fields: dict[str, Any]) -> bool:
    """Whether a row with fields of these names holds an answer to compare."""
    return any(_is_answer(fields.get(name)) for name in (*PREFERRED, *OTHERS))


def _is_answer(value: object) -> bool:
    return not is_missing(value) and isinstance(value, str | list | dict)


def _is_good(value: object) -> bool | None:
    word = value.strip().lower().replace(" ", "_") if isinstance(value, str) else value
    if word in _GOOD or word in _BAD:
        return word in _GOOD
    return False if word == -1 else as_flag(value)


def _asked(fields: dict[str, Any]) -> list[Any]:
    """The turns beside the answers."""
    for name in TURNS:
        turns = from_json(fields.get(name))
        if is_list(turns):
            return turns
    if any(name in fields for name in QUESTIONS):
        return question_turns(fields, question_key(fields))
    return []


def _preferred(
    asked: list[Any], name: str, value: object, other: object
) -> tuple[list[Any], list[Any]]:
    """What comes before the preferred answer, and the answer.

    Args:
        asked: the turns beside the answers.
        name: of the field with the preferred answer.
        value: a text, a turn, or turns, perhaps with those before the answer.
        other: an answer that is not preferred.
    """
    value, other = _turns(value), _turns(other)
    if isinstance(value, str) and not asked:
        return [], [value]
    told = answer_turns(name, value)
    if _role(told[0]) in ("assistant", "gpt"):
        if asked and _role(asked[-1]) in ("assistant", "gpt"):
            raise UnfitError(RejectReason.FIELDS_AMBIGUOUS, f"{name} after an answer")
        return asked, told
    said = [_said(turn) for turn in told]
    missing = [turn for turn in asked if _said(turn) not in said]
    if missing:
        raise UnfitError(
            RejectReason.FIELDS_AMBIGUOUS, f"{name} holds another question: {shorten(missing[0])}"
        )
    num_shared = 0
    while num_shared < len(told) - 1 and (
        not is_list(other) or told[num_shared] in other[num_shared : num_shared + 1]
    ):
        num_shared += 1
    return told[:num_shared], told[num_shared:]


def _turns(value: object) -> Any:
    """Turns written as JSON or as a transcript; any other value unchanged."""
    if not isinstance(value, str):
        return value
    decoded = from_json(value)
    if decoded and is_list(decoded) and all(map(is_turn, decoded)):
        return decoded
    if not value.lstrip().startswith("Human:"):
        return value
    _, *parts = _SPEAKER.split(value.strip())
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": text}
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def _role(turn: object) -> object:
    fields = cast("dict[str, object]", turn)
    return fields.get("role", fields.get("from"))


def _said(turn: object) -> object:
    fields = cast("dict[str, object]", turn)
    said = fields.get("content", fields.get("value"))
    return said.strip() if isinstance(said, str) else said
