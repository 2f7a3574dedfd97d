"""Refusals as Python shows them: remedies are calls and arguments instead of commands and flags."""

import shlex

from headway.base.errors import Problems, Refusal, Remedy
from headway.config.command_line import Arguments, parse
from headway.config.python_spelling import python_argument, python_literal

_CALLS = ("plan", "train")
_QUIET = {"quiet": "quiet=True"}
# What is said rather than typed.
_SAID = {
    "the same command again": "the same call again",
    "run the same command again": "run the same call again",
}


def in_python(refusal: Refusal) -> Refusal:
    """The same refusal with its remedies for a Python program."""
    if isinstance(refusal, Problems):
        return Problems(tuple(in_python(problem) for problem in refusal.problems))
    return type(refusal)(
        refusal.what,
        cause=refusal.cause,
        have=refusal.have,
        need=refusal.need,
        remedies=tuple(Remedy(python_remedy(one.do), one.gives) for one in refusal.remedies),
    )


def python_remedy(do: str) -> str:
    """A remedy for Python; one that is neither a flag nor one of our calls stays as it is.

    Args:
        do: flags, a command line, or something to do.
    """
    if do in _SAID:
        return _SAID[do]
    try:
        words = shlex.split(do)
    except ValueError:
        return do
    if words and words[0].startswith("--"):
        found = _parsed(words)
        return ", ".join(_arguments(found)) if found and not found.words else do
    if words[:1] == ["headway"] and words[1:2] and words[1] in _CALLS:
        found = _parsed(words[2:])
        if found is None or not found.words:
            return do
        sources = [python_literal(word) for word in found.words]
        data = sources[0] if len(sources) == 1 else f"[{', '.join(sources)}]"
        return f"headway.{words[1]}({', '.join([data, *_arguments(found)])})"
    return do


def _parsed(words: list[str]) -> Arguments | None:
    """Words of a command line that a call can say as well; None if it cannot."""
    try:
        found = parse(words, {}, settings=True)
    except Refusal:
        return None
    if found.problems or found.config or found.switches.keys() - _QUIET.keys():
        return None
    return found


def _arguments(found: Arguments) -> list[str]:
    given = [python_argument(one.name, one.value) for one in found.given]
    return given + [_QUIET[name] for name in found.switches]
