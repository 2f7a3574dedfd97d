"""Lookup of another tool's setting or value: what to write here instead."""

import functools
import re
from collections.abc import Mapping
from dataclasses import Field, replace
from typing import Any, cast

from headway.config.other_tools.meaning import Answer, Meaning, Outcome, needless
from headway.config.other_tools.not_here import NOT_HERE
from headway.config.other_tools.not_needed import NOT_NEEDED
from headway.config.other_tools.same import DATA_NAMES, OWN_VALUES, SAME
from headway.config.settings import example, hints, is_flag, normalize, spellings
from headway.config.values import convert

TABLE: tuple[Meaning, ...] = (*SAME, *NOT_NEEDED, *NOT_HERE)
_PATHS = ("model", "tokenizer", "output_dir")
_SECTIONS = ("train", "eval")  # also sections whose keys have meanings of their own
_OFF = {"", "0", "0.0", "false", "no", "none", "null", "off", "[]", "{}", "disabled", "disable"}


@functools.cache
def meanings() -> Mapping[str, Meaning]:
    """Every name of other tools in the table, and its meaning."""
    return {name: meaning for meaning in TABLE for name in meaning.names.split()}


def is_data(name: str) -> bool:
    """Whether other tools name by it what to train on."""
    return normalize(name).rpartition(".")[2] in DATA_NAMES


def names_a_path(name: str) -> bool:
    """Whether the value of another tool's setting is a file, a folder or an address."""
    meaning = meanings().get(normalize(name))
    return is_data(name) or (meaning is not None and meaning.ours in _PATHS)


def answer(name: str, value: object) -> Answer | None:
    """What becomes of another tool's setting; None for a name that no table has.

    Args:
        name: as it was written; a section and its key are joined by a period.
        value: text, a list of texts, None for an empty one; True for a flag without a value.
    """
    normal = normalize(name)
    meaning = meanings().get(normal)
    if meaning is not None:
        return answer_of(meaning, value)
    section, _, key = normal.rpartition(".")
    if not section:
        return None
    outer = meanings().get(section.partition(".")[0])
    if outer is not None and outer.outcome is not Outcome.RENAMED and section not in _SECTIONS:
        return replace(answer_of(outer, "set"), outcome=outer.outcome)
    # `lora.dropout` is `lora_dropout` in another place, not the dropout of a model.
    for name in (f"{section.rpartition('.')[2]}_{key}", key):
        if name in spellings():
            return _ours(spellings()[name].name, value)
        if inner := meanings().get(name):
            return answer_of(inner, value)
    return None


def own_value(row: Field[Any], value: object) -> object:
    """The value of our setting, said in our words where another tool's word means the same.

    Returns:
        The value; an `Answer` for a word whose meaning is not available here.
    """
    if row.name == "lora_target_modules":
        return _modules(value)
    words = OWN_VALUES.get(row.name, {})
    said = _word(value)
    if isinstance(value, str) and said in row.metadata["choices"]:
        return said
    if not words or isinstance(value, list | tuple):
        return value
    return words.get(said, value)


def other_value(row: Field[Any]) -> Answer | None:
    """What becomes of every value of our setting that is neither ours nor a known word."""
    found = OWN_VALUES.get(row.name, {}).get("*")
    return found if isinstance(found, Answer) else None


def text_of(value: object) -> str:
    """A value as it is written in a file: lists in brackets."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(text_of(one) for one in cast('list[object]', value))}]"
        case _:
            return str(value)


def answer_of(meaning: Meaning, value: object) -> Answer:
    """What becomes of a value of a setting with this meaning."""
    said = _word(value)
    found = meaning.values.get(said)
    if isinstance(found, Answer):
        return found
    match meaning.outcome:
        case Outcome.RENAMED:
            if value is None:
                return needless("it sets nothing")
            return _ours(meaning.ours, value if found is None else found, meaning)
        case Outcome.NOT_HERE if said in _OFF and value is not True:
            return needless("it is off here")
        case Outcome.NOT_NEEDED if "*" in meaning.values and said not in _OFF:
            return cast("Answer", meaning.values["*"])
        case _:
            return Answer(meaning.outcome, meaning.lines, meaning.because, meaning.decides)


def _ours(name: str, value: object, meaning: Meaning | None = None) -> Answer:
    """Our setting with the value that was written; with an example where it does not take that."""
    names = name.split()
    if len(names) > 1:
        parts = [part.strip() for part in text_of(value).strip("[]()").split(",")]
        if len(parts) != len(names):
            parts = [example(spellings()[one]) for one in names]
        answers = [_ours(one, part) for one, part in zip(names, parts, strict=True)]
        lines = tuple(line for one in answers for line in one.lines)
        return Answer(Outcome.RENAMED, lines, exact=all(one.exact for one in answers))
    row = spellings()[name]
    if value is True and not is_flag(row):
        return Answer(Outcome.RENAMED, ((name, example(row)),), exact=False)
    try:
        if meaning and meaning.convert:
            value = meaning.convert(text_of(value))
        ours = own_value(row, value)
        if isinstance(ours, Answer):
            return ours
        if ours is None:
            return needless("the plan decides it")
        convert(hints()[row.name], row.metadata, ours)
    except ValueError:
        if other := other_value(row):
            return other
        like = meaning.values.get("true") if meaning else None  # of an opposite: the opposite
        ours = like if isinstance(like, str) else example(row)
        return Answer(Outcome.RENAMED, ((name, ours),), exact=False)
    text = ",".join(map(str, ours)) if isinstance(ours, list | tuple) else text_of(ours)
    return Answer(Outcome.RENAMED, ((name, text),))


def _modules(value: object) -> object:
    """Names of modules, also as one text with commas between them."""
    words = OWN_VALUES["lora_target_modules"]
    texts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, str) for one in texts):
        return value
    split = [part.strip() for one in cast("list[str]", texts) for part in one.split(",")]
    return [words.get(_word(part), part) for part in split if part]


def _word(value: object) -> str:
    return re.sub(r"(?<=\w)-", "_", text_of(value).strip().strip("\"'").lower())
