"""Words on a command line -> what they name, settings and switches.

Every setting is a flag, with hyphens or underscores, as `--name value` or `--name=value`, or
`section.key=value` without hyphens; a setting that is on or off is turned on by naming it and off
by `--no-name`. A word that ends in .yaml is the configuration file.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from headway.base.errors import Problems, Refusal, Remedy, UsageError
from headway.config.resolve import resolve, unknown
from headway.config.settings import (
    Given,
    Settings,
    is_flag,
    normal,
    printed_name,
    spellings,
    table,
)


@dataclass(frozen=True)
class Switch:
    """An option of a verb that is no setting of a run."""

    help: str
    takes: str = ""  # what its value is, "" for a switch without one
    default: str = ""


_COLUMN = 28  # of the help: flags to its left, what they mean to its right

EVERYWHERE: Mapping[str, Switch] = {
    "json": Switch("for programs: JSON on standard output"),
    "quiet": Switch("only errors and the closing line"),
    "verbose": Switch("everything, and the traceback of an error"),
    "help": Switch("this"),
}


@dataclass
class Arguments:
    """A command line, taken apart."""

    words: list[str] = field(default_factory=list[str])
    given: list[Given] = field(default_factory=list[Given])
    switches: dict[str, str] = field(default_factory=dict[str, str])
    config: str | None = None

    def on(self, switch: str) -> bool:
        """Whether a switch was named."""
        return switch in self.switches

    def settings(self) -> tuple[tuple[str, ...], Settings]:
        """The sources and the settings, those of the configuration file included.

        Raises:
            UsageError: something is unknown or does not fit.
            Problems: several things.
        """
        words, given = tuple(self.words), self.given
        if self.config:
            from headway.config.yaml_file import read_settings

            file = read_settings(Path(self.config))
            words, given = words or file.data, [*file.given, *given]
        return words, resolve(given)


def parse(argv: Sequence[str], own: Mapping[str, Switch], *, settings: bool) -> Arguments:
    """Take a verb's arguments apart.

    Args:
        argv: what follows the verb.
        own: the verb's own options.
        settings: whether the verb takes the settings of a run.

    Raises:
        UsageError: an option is unknown or lacks its value.
        Problems: several are.
    """
    options = {**EVERYWHERE, **own}
    rows = spellings() if settings else {}
    found = Arguments()
    problems: list[Refusal] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.words += rest
            break
        if word in ("-h", "-q", "-v"):
            word = {"-h": "--help", "-q": "--quiet", "-v": "--verbose"}[word]
        if not word.startswith("--"):
            _plain(word, found, settings=settings)
            continue
        name, equals, value = word.partition("=")
        key = normal(name)
        switch, row = options.get(key), rows.get(key)
        off = rows.get(key.removeprefix("no_"))
        if switch is not None:
            taken = _value(value if equals else None, rest, needed=bool(switch.takes))
            if taken is None:
                problems.append(_lacks_value(name, switch.takes))
            else:
                found.switches[key] = taken
        elif row is not None:
            flag = is_flag(row)
            taken = _value(value if equals else None, rest, needed=not flag)
            if taken is None:
                problems.append(_lacks_value(name, row.metadata["help"]))
            else:
                found.given.append(Given(name, taken or "true", name))
        elif off is not None and is_flag(off) and key.startswith("no_"):
            found.given.append(Given(printed_name(off), "false", name))
        else:
            problems.append(_unknown(name, value, rest, options, settings=settings))
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    found.given = _gathered(found.given)
    return found


def help_lines(own: Mapping[str, Switch], *, settings: bool) -> list[str]:
    """The options of a verb, a line each."""
    lines: list[str] = []
    for name, switch in {**own, **EVERYWHERE}.items():
        shown = f"--{name.replace('_', '-')}" + (f" {switch.takes}" if switch.takes else "")
        lines += _help_of(shown, f"{switch.help}{_default(switch.default)}")
    if not settings:
        return lines
    lines += ["", "settings (also as section.key=value, or in a .yaml file):"]
    for row in table():
        flag = "--" + printed_name(row).replace("_", "-")
        choices = row.metadata["choices"]
        also = "".join(f", --{a.replace('_', '-')}" for a in row.metadata["also"][:2])
        text = row.metadata["help"] + (f" ({' | '.join(choices)})" if choices else "")
        lines += _help_of(f"{flag}{also}", f"{text}{_default(row.default)}")
    return lines


def _help_of(flags: str, text: str) -> list[str]:
    """Flags too long for their column stand on a line of their own."""
    if len(flags) <= _COLUMN:
        return [f"  {flags:{_COLUMN}}  {text}"]
    return [f"  {flags}", f"  {'':{_COLUMN}}  {text}"]


def _default(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(str, cast("tuple[object, ...]", value)))
    return "" if value in (None, "", False) else f" [{value}]"


def _plain(word: str, found: Arguments, *, settings: bool) -> None:
    name, equals, value = word.partition("=")
    if settings and equals and normal(name) in spellings() and not Path(word).exists():
        found.given.append(Given(name, value, f"{name}="))
    elif settings and word.endswith((".yaml", ".yml")):
        found.config = word
    else:
        found.words.append(word)


def _value(given: str | None, rest: list[str], *, needed: bool) -> str | None:
    """The option's value: after `=`, or the next word; None when one is needed and missing."""
    if given is not None:
        return given
    if not needed:
        return ""
    # A negative number is a value; another option is not.
    if rest and (not rest[0].startswith("--") or rest[0] == "-"):
        return rest.pop(0)
    return None


def _gathered(given: list[Given]) -> list[Given]:
    """A setting that is a list may be named once for each of its texts."""
    rows = spellings()
    lists: dict[str, list[object]] = {}
    kept: list[Given] = []
    for one in given:
        row = rows[normal(one.name)]
        if not isinstance(row.default, tuple):
            kept.append(one)
            continue
        if row.name not in lists:
            lists[row.name] = []
            kept.append(Given(one.name, lists[row.name], one.origin))
        lists[row.name].append(one.value)
    return kept


def _lacks_value(name: str, what: str) -> UsageError:
    return UsageError(
        f"{name} needs a value",
        have=name,
        need=what,
        remedies=(Remedy(f"{name} VALUE"),),
    )


def _unknown(
    name: str, value: str, rest: list[str], options: Mapping[str, Switch], *, settings: bool
) -> Refusal:
    if not value and rest and not rest[0].startswith("-"):
        value = rest.pop(0)
    if settings:
        return unknown(Given(name, value, name))
    near = difflib.get_close_matches(normal(name), [*options], n=2)
    return UsageError(
        f"unknown option {name}",
        have=name,
        need="an option of this verb",
        remedies=tuple(Remedy(f"--{n.replace('_', '-')}", options[n].help) for n in near)
        or (Remedy("--help", "shows them all"),),
    )
