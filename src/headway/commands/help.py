"""Help: all verbs by group, or one verb with examples, options and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import Field
from typing import Any, cast

from headway.commands.verb import GROUPS, Verb
from headway.config.command_line import EVERYWHERE, Switch
from headway.config.settings import is_flag, printed_name, subjects, value_name
from headway.ui.text_layout import fold

WIDEST = 100  # columns: longer lines are hard to read
_SLOGAN = (
    "Headway trains language models. It plans before it computes, shows what it is "
    "doing, and ends every run with a receipt that can be checked."
)
_CLOSING = (
    "headway VERB --help explains a verb, with examples. RUN is a name or a folder; without one, "
    "the newest run is used. DATA is files, folders, patterns, s3:// and hf:// addresses, or - "
    "for standard input."
)
_SETTINGS = (
    "Each setting is also accepted as name=value, or in a .yaml file. Where no default is "
    "shown in brackets, the plan decides and says why."
)
_TITLES = {
    "start": "Start",
    "look": "Look at runs",
    "use": "Use a model",
    "keep": "Keep and check",
    "set up": "Set up",
}
_WIDEST_FLAGS = 26  # those longer have their description below
_NARROWEST_TEXT = 32  # columns; where there are fewer, all descriptions are below

Rows = Sequence[tuple[str, str]]


def overview_lines(verbs: Mapping[str, Verb], width: int) -> list[str]:
    """What `headway --help` prints.

    Args:
        verbs: by name.
        width: columns.
    """
    width = min(width, WIDEST)
    column = max(map(len, verbs))
    lines = [*fold(_SLOGAN, width), "", *fold("usage: headway VERB [ARGUMENTS] [OPTIONS]", width)]
    for group in (*GROUPS, ""):
        rows = [(name, verb.help) for name, verb in verbs.items() if verb.group == group]
        if rows:
            lines += ["", _TITLES.get(group, "Other"), *_listed(rows, column, width)]
    return [*lines, "", *fold(_CLOSING, width)]


def verb_lines(verb: Verb, width: int) -> list[str]:
    """What `headway VERB --help` prints.

    Args:
        verb: to explain.
        width: columns. Only an example, which is to be copied, may be wider.
    """
    width = min(width, WIDEST)
    lines = [
        *fold(f"usage: headway {verb.usage}", width),
        "",
        *fold(verb.about or verb.help, width),
    ]
    if verb.examples:
        lines += ["", "Examples"]
        for command, what in verb.examples:
            lines += [f"  {command}", *(f"      {line}" for line in fold(what, width - 6))]
    sections = _switches({**verb.options, **EVERYWHERE})
    settings = _settings() if verb.settings else {}
    rows = [row for some in (*sections.values(), *settings.values()) for row in some]
    column = max(len(flags) for flags, _ in rows if len(flags) <= _WIDEST_FLAGS)
    for title, some in sections.items():
        lines += ["", title.capitalize(), *_listed(some, column, width)]
    if settings:
        lines += ["", *fold(_SETTINGS, width)]
    for title, some in settings.items():
        lines += ["", title[0].upper() + title[1:], *_listed(some, column, width)]
    return lines


def _switches(switches: Mapping[str, Switch]) -> dict[str, Rows]:
    """Flags and descriptions of a verb's own options, by subject."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, switch in switches.items():
        flags = _flags(name, switch.short, switch.takes)
        text = f"{switch.help}{_default(switch.default)}"
        found.setdefault(switch.subject, []).append((flags, text))
    return dict(found)


def _settings() -> dict[str, Rows]:
    """Flags and descriptions of the settings, by subject."""
    return {
        subject: [(_setting_flags(row), _setting_text(row)) for row in rows]
        for subject, rows in subjects().items()
    }


def _setting_flags(row: Field[Any]) -> str:
    name = printed_name(row)
    if is_flag(row) and row.default is not False:
        name = f"[no-]{name}"
    return _flags(name, row.metadata["short"], value_name(row))


def _setting_text(row: Field[Any]) -> str:
    also = [f"--{name.replace('_', '-')}" for name in row.metadata["also"]]
    spelled = f"; also {', '.join(also)}" if also else ""
    return f"{row.metadata['help']}{spelled}{_default(row.default)}"


def _flags(name: str, short: str, takes: str) -> str:
    letter = f"-{short}, " if short else ""
    return f"{letter}--{name.replace('_', '-')}{' ' + takes if takes else ''}"


def _default(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(str, cast("tuple[object, ...]", value)))
    if value is True:
        value = "on"
    return "" if value is None or value is False or value == "" else f" [{value}]"


def _listed(rows: Rows, column: int, width: int) -> list[str]:
    """Terms and their descriptions: side by side, or one below the other."""
    room = width - column - 4
    if room < _NARROWEST_TEXT:
        column, room = 4, width - 8
    lines: list[str] = []
    for term, text in rows:
        first, *rest = fold(text, room)
        if len(term) <= column:
            lines.append(f"  {term:{column}}  {first}")
        else:
            lines += [f"  {part}" for part in fold(term, width - 2)]
            lines.append(f"  {'':{column}}  {first}")
        lines += [f"  {'':{column}}  {line}" for line in rest]
    return lines
