"""End tokens: every token at which a model's answers end, wherever its files say so."""

from collections.abc import Sequence
from pathlib import Path

from headway.base.errors import UsageError
from headway.data.examples.chat import Template
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer
from headway.data.examples.tokenizer_files import read_end_ids

_QUESTION, _ANSWER = "What is it?", "Quite something"


def end_ids_of(folders: Sequence[Path], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids, without repeats: those of the generation config first.

    Args:
        folders: with a generation_config.json or a config.json: of the model, of its adapters.
        tokenizer: has an end token and a chat template.
    """
    ids = [one for folder in folders for one in read_end_ids(folder)]
    behind = id_behind_answer(tokenizer)
    ids += [*tokenizer.end_ids, *([] if behind is None else [behind])]
    return tuple(dict.fromkeys(one for one in ids if tokenizer.token_of(one) is not None))


def id_behind_answer(tokenizer: Tokenizer) -> int | None:
    """The special token that the chat template writes behind an answer; None if there is none."""
    if tokenizer.chat_template is None:
        return None
    messages = [
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": _ANSWER},
    ]
    try:
        text = Template(tokenizer).render(messages)
    except (RenderError, UsageError):
        return None
    _, found, behind = text.rpartition(_ANSWER)
    if not found:
        return None
    ids = tokenizer.encode([behind])[0].tolist()
    return next((one for one in ids[:2] if one in tokenizer.special_ids), None)
