"""Questions and answers: fields that hold the two sides of a conversation."""

from typing import Any

from headway.data.formats.fields.conversations import conversation
from headway.data.formats.fields.pairs import answer_key, question_key, question_text, second_parts
from headway.data.formats.fields.turns import is_turn
from headway.data.formats.fields.values import from_json, is_list, is_missing, shorten
from headway.data.formats.records import Record, RejectReason, UnfitError


def completion(file: str, line: int, fields: dict[str, Any]) -> Record:
    """A prompt and its completion: two texts, or lists of messages. Only the completion trains."""
    return _asked_and_answered(
        file, line, fields, ("prompt", "completion"), "prompt and completion"
    )


def alpaca(file: str, line: int, fields: dict[str, Any]) -> Record:
    """An instruction, perhaps with an input, and the output."""
    return _asked_and_answered(file, line, fields, ("instruction", "output"), "Alpaca instructions")


def pair(file: str, line: int, fields: dict[str, Any]) -> Record:
    """Any other question and its answer.

    Raises:
        UnfitError: there are two questions, or two answers.
    """
    return _asked_and_answered(
        file, line, fields, (question_key(fields), answer_key(fields)), "question and answer"
    )


def _asked_and_answered(
    file: str, line: int, fields: dict[str, Any], keys: tuple[str, str], shape: str
) -> Record:
    question, answer = keys
    asked = question_turns(fields, question)
    told = answer_turns(answer, fields[answer])
    num_context = len(asked) if isinstance(fields[question], list) else 0
    return conversation(file, line, fields, [*asked, *told], shape, num_context)


def question_turns(fields: dict[str, Any], key: str) -> list[object]:
    """The turns up to the answer: earlier questions and answers, and the question.

    Args:
        fields: of the row.
        key: of the question: a text, or a list of turns.

    Raises:
        UnfitError: a field holds something else.
    """
    value = fields[key]
    if is_list(value):
        if more := [name for name in second_parts(key) if not is_missing(fields.get(name))]:
            raise UnfitError(RejectReason.FIELDS_AMBIGUOUS, f"{key} and {more[0]}")
        return [*_history(fields), *value]
    return [*_history(fields), {"role": "user", "content": question_text(fields, key)}]


def answer_turns(key: str, value: object) -> list[object]:
    """The turns of an answer: a text, a turn, or a list of turns.

    Raises:
        UnfitError: it is something else.
    """
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    if is_turn(value):
        return [value]
    if not is_list(value) or not all(map(is_turn, value)):
        raise UnfitError(RejectReason.ANSWER_NOT_TEXT, f"{key}: {shorten(value)}")
    return value


def _history(fields: dict[str, Any]) -> list[object]:
    history = from_json(fields.get("history")) or []
    if not is_list(history) or not all(is_list(pair) and len(pair) == 2 for pair in history):
        raise UnfitError(RejectReason.HISTORY_NOT_PAIRS, f"history: {shorten(history)}")
    return [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
