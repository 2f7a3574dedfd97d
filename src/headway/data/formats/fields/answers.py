"""Questions and answers: fields that hold the two sides of a conversation."""

from typing import Any, cast

from headway.data.formats.fields.conversations import conversation
from headway.data.formats.fields.turns import is_turn
from headway.data.formats.fields.values import from_json, is_list, is_missing, shorten
from headway.data.formats.records import Record, RejectReason, UnfitError

QUESTIONS = ("prompt", "instruction", "question", "query", "input", "user", "human")
ANSWERS = ("completion", "output", "response", "answer", "assistant", "gpt", "bot")
_MORE = {"input": ("instruction",), "context": ("instruction",)}  # a question's second part


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


def question_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those names that hold a question or come before it."""
    more = [name for name, of in _MORE.items() if any(one in names for one in of)]
    return tuple(name for name in names if name in (*QUESTIONS, *more, "history"))


def question_key(fields: dict[str, Any]) -> str:
    """The field that holds the question.

    Raises:
        UnfitError: several do, or none.
    """
    found = [name for name in QUESTIONS if name in fields]
    for more, of in _MORE.items():
        if more in found and any(name in found for name in of):
            found.remove(more)
    return _only(found, fields)


def answer_key(fields: dict[str, Any]) -> str:
    """The field that holds the answer.

    Raises:
        UnfitError: several do, or none.
    """
    return _only([name for name in ANSWERS if name in fields], fields)


def _only(names: list[str], fields: dict[str, Any]) -> str:
    given = [name for name in names if not is_missing(fields[name])] or names[:1]
    if len(given) != 1:
        raise UnfitError(RejectReason.FIELDS_AMBIGUOUS, " or ".join(given) or "no answer")
    return given[0]


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
        return [*_history(fields), *value]
    more = [fields.get(name) or "" for name, of in _MORE.items() if key in of]
    asked = [value, *more]
    if not all(isinstance(part, str) for part in asked):
        raise UnfitError(RejectReason.QUESTION_NOT_TEXT, f"{key}: {shorten(asked)}")
    text = "\n\n".join(filter(None, cast("list[str]", asked)))
    return [*_history(fields), {"role": "user", "content": text}]


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
