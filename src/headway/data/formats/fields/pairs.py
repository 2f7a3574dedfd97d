"""Question and answer fields: their names, and which of them a row means."""

from collections.abc import Iterator
from typing import Any, cast

from headway.data.formats.fields.values import is_missing, shorten
from headway.data.formats.records import RejectReason, UnfitError

SYSTEM_KEYS = (
    *("system", "system_prompt", "system_message", "system_instruction", "system_instructions"),
    *("systemPrompt", "systemMessage", "systemInstruction", "sys_prompt"),
)
QUESTIONS = ("prompt", "instruction", "question", "query", "input", "user", "human")
ANSWERS = ("completion", "output", "response", "answer", "assistant", "gpt", "bot")
_SECOND_PARTS = {"input": ("instruction",), "context": ("instruction",)}  # a question's second part


def question_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those names that hold a question or come before it."""
    more = [name for name, of in _SECOND_PARTS.items() if any(one in names for one in of)]
    return tuple(name for name in names if name in (*QUESTIONS, *more, "history"))


def question_key(fields: dict[str, Any]) -> str:
    """The field that holds the question.

    Raises:
        UnfitError: several do, or none.
    """
    found = [name for name in QUESTIONS if name in fields]
    for more, of in _SECOND_PARTS.items():
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


def second_parts(key: str) -> tuple[str, ...]:
    """The fields that may hold a second part of the question in a field."""
    return tuple(name for name, of in _SECOND_PARTS.items() if key in of)


def question_text(fields: dict[str, Any], key: str) -> str:
    """The question in a field, with its second part after an empty line.

    Raises:
        UnfitError: it is not text.
    """
    more = [fields.get(name) or "" for name in second_parts(key)]
    asked = [fields[key], *more]
    if not all(isinstance(part, str) for part in asked):
        raise UnfitError(RejectReason.QUESTION_NOT_TEXT, f"{key}: {shorten(asked)}")
    return "\n\n".join(filter(None, cast("list[str]", asked)))


def is_pair(value: dict[str, Any]) -> bool:
    """Whether an object holds a question and an answer."""
    names = value.keys()
    return not names.isdisjoint(QUESTIONS) and not names.isdisjoint(ANSWERS)


def turns_of_pair(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The turns of a question and its answer inside a conversation, as Swift and XTuner write it.

    Everything else in the pair, such as whether it is trained, applies to the answer.

    Raises:
        UnfitError: there are two questions, or two answers, or none.
    """
    question, answer = question_key(fields), answer_key(fields)
    system = [name for name in SYSTEM_KEYS if not is_missing(fields.get(name))]
    for name in system:
        yield {"role": "system", "content": fields[name]}
    if text := question_text(fields, question):
        yield {"role": "user", "content": text}
    read = (question, answer, *second_parts(question), *SYSTEM_KEYS)
    others = {name: value for name, value in fields.items() if name not in read}
    yield {**others, "role": "assistant", "content": fields[answer]}
