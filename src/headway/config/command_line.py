"""Command-line parser: options, settings and words.

Every setting is a flag, with hyphens or underscores, as `--name value` or `--name=value`, or
`section.key=value` without hyphens. A boolean setting is turned on by `--name` and off by
`--no-name`. An option may have a letter: `-n 20`, `-n20`, and several together, `-fn 20`. An
argument that ends in .yaml is the configuration file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.config.other_tools.lookup import answer, is_data, names_a_path
from headway.config.other_tools.same import OPTIONS
from headway.config.resolve import check, raise_problems, unknown
from headway.config.settings import (
    Given,
    Settings,
    is_flag,
    normalize,
    printed_name,
    spellings,
    table,
)
from headway.config.typos import nearest


@dataclass(frozen=True)
class Switch:
    """An option of a command that is not a setting of a run."""

    help: str
    takes: str = ""  # the name of its value or its choices, a|b; "" for a switch without one
    default: str = ""
    short: str = ""  # its letter
    subject: str = "options"  # the heading that it is listed under


EVERYWHERE: Mapping[str, Switch] = {
    "json": Switch("print JSON, for programs", subject="output"),
    "quiet": Switch("print only errors and the final line", short="q", subject="output"),
    "verbose": Switch("print everything, and tracebacks of errors", short="v", subject="output"),
    "help": Switch("show this help", short="h", subject="output"),
}


@dataclass
class Arguments:
    """A parsed command line; `settings` tells its problems together with those of the values."""

    words: list[str] = field(default_factory=list[str])
    given: list[Given] = field(default_factory=list[Given])
    switches: dict[str, str] = field(default_factory=dict[str, str])
    config: str | None = None
    problems: list[Refusal] = field(default_factory=list[Refusal])

    def on(self, switch: str) -> bool:
        """Whether a switch was given."""
        return switch in self.switches

    def settings(self) -> tuple[tuple[str, ...], Settings]:
        """The sources and the settings, including those of the configuration file.

        Raises:
            UsageError: an option or a setting is unknown or invalid.
            Problems: several are.
        """
        words, given, problems = tuple(self.words), self.given, [*self.problems]
        hints: list[UsageError] = []
        if self.config:
            from headway.config.yaml_file import scan_settings

            try:
                file = scan_settings(Path(self.config))
                words, given = words or file.data, [*file.given, *given]
                problems += file.problems
                hints = [file.hint] if file.hint else []
            except UsageError as problem:
                problems.append(problem)
        settings, invalid = check(given)
        problems += invalid
        raise_problems([*problems, *(hints if problems else [])])
        return words, settings


def parse(
    argv: Sequence[str], own: Mapping[str, Switch], *, settings: bool, until_word: bool = False
) -> Arguments:
    """Parse the arguments of a command.

    Args:
        argv: the arguments after the command.
        own: the command's own options.
        settings: whether the command accepts the settings of a run.
        until_word: whether all after the first word are words, too: a command to run.

    Returns:
        With `settings`, also what is wrong, so that it is told with the values that are.

    Raises:
        UsageError: without `settings`: an option is unknown or its value is missing.
        Problems: several are.
    """
    options, rows = {**EVERYWHERE, **own}, spellings() if settings else {}
    names, letters = {*options, *rows}, _letters(options, settings=settings)
    found = Arguments()
    problems: list[Refusal] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--" or (until_word and not _is_option(word)):
            found.words += rest if word == "--" else [word, *rest]
            break
        if not _is_option(word):
            problems += _add_word(word, found, settings=settings)
            continue
        name, equals, value = word.partition("=")
        key = normalize(name)
        name = f"--{name.lstrip('-')}" if key in names else name
        if key not in names and (long := _spelled_out(word, letters)):
            rest[:0] = long
            continue
        switch, row, off = options.get(key), rows.get(key), rows.get(key.removeprefix("no_"))
        if switch is not None:
            taken = _value(value if equals else None, rest, needed=bool(switch.takes))
            if taken is None:
                problems.append(_missing_value(name, switch.takes))
            else:
                found.switches[key] = taken
        elif row is not None:
            flag = is_flag(row)
            taken = _value(value if equals else None, rest, needed=not flag)
            if taken is None:
                problems.append(_missing_value(name, row.metadata["help"]))
            else:
                found.given.append(Given(name, taken or "true", name))
        elif off is not None and is_flag(off) and key.startswith("no_"):
            found.given.append(Given(printed_name(off), "false", name))
        else:
            problems.append(_unknown(name, value, rest, options, settings=settings))
    if not settings:
        raise_problems(problems)
    found.problems = problems
    found.given = _merge_lists(found.given)
    return found


def _is_option(word: str) -> bool:
    """Whether a word is an option, by name or by letter: - and -1 are none."""
    return word.startswith("--") or (word[:1] == "-" and word[1:2].isalpha())


def _letters(options: Mapping[str, Switch], *, settings: bool) -> dict[str, tuple[str, bool]]:
    """By letter: the option it stands for, and whether that takes a value."""
    letters: dict[str, tuple[str, bool]] = {}
    for row in table() if settings else ():
        name = printed_name(row).replace("_", "-")
        letters[row.metadata["short"]] = f"--{name}", not is_flag(row)
    for name, switch in options.items():
        letters[switch.short] = f"--{name.replace('_', '-')}", bool(switch.takes)
    letters.pop("", None)
    return letters


def _spelled_out(word: str, letters: Mapping[str, tuple[str, bool]]) -> list[str]:
    """The options that letters stand for: -fn20 is --follow --lines=20; [] if it is none."""
    found: list[str] = []
    for at, letter in enumerate(word[1:], 2):
        if letter not in letters:
            return []
        name, takes_value = letters[letter]
        if takes_value:
            value = word[at:].removeprefix("=")
            return [*found, f"{name}={value}" if value else name]
        found.append(name)
    return found


def _add_word(word: str, found: Arguments, *, settings: bool) -> list[Refusal]:
    """Add a word that is not an option; a second configuration file is a problem."""
    name, equals, value = word.partition("=")
    if settings and equals and normalize(name) in spellings() and not Path(word).exists():
        found.given.append(Given(name, value, f"{name}="))
    elif settings and equals and _is_name(name) and not Path(word).exists():
        return [unknown(Given(name, value, f"{name}="))]
    elif settings and word.endswith((".yaml", ".yml")):
        if found.config:
            return [_second_file(found.config, word)]
        found.config = word
    else:
        found.words.append(word)
    return []


def _is_name(word: str) -> bool:
    """Whether it is another tool's name of a setting, or one of ours with a typo."""
    known = answer(word, "") is not None or is_data(word)
    return known or (nearest(normalize(word), spellings()) is not None)


def _value(given: str | None, rest: list[str], *, needed: bool) -> str | None:
    """The option's value, after `=` or from the next argument; None if it is missing."""
    if given is not None:
        return given
    if not needed:
        return ""
    # A negative number is a value, another option is not.
    if rest and (not rest[0].startswith("--") or rest[0] == "-"):
        return rest.pop(0)
    return None


def _merge_lists(given: list[Given]) -> list[Given]:
    """Combine the values of a list setting that is given more than once."""
    rows = spellings()
    lists: dict[str, list[object]] = {}
    kept: list[Given] = []
    for one in given:
        row = rows[normalize(one.name)]
        if not isinstance(row.default, tuple):
            kept.append(one)
            continue
        if row.name not in lists:
            lists[row.name] = []
            kept.append(Given(one.name, lists[row.name], one.origin))
        lists[row.name].append(one.value)
    return kept


def _missing_value(name: str, what: str) -> UsageError:
    return UsageError(
        f"{name} needs a value",
        cause=Cause.MISSING_ARGUMENT,
        have=name,
        need=what,
        remedies=(Remedy(f"{name} VALUE"),),
    )


def _second_file(first: str, second: str) -> UsageError:
    return UsageError(
        "one configuration file at a time",
        cause=Cause.UNEXPECTED_ARGUMENT,
        have=f"{first} and {second}",
        need="one .yaml file; flags override what it says",
        remedies=(Remedy(f"without {second}"),),
    )


def _unknown(
    name: str, value: str, rest: list[str], options: Mapping[str, Switch], *, settings: bool
) -> Refusal:
    if settings and name.startswith("--"):
        takes = not value and rest and re.match(r"[^-]|-\d|-$", rest[0])
        if takes and (names_a_path(name) or not Path(rest[0]).exists()):
            value = rest.pop(0)  # data that follows a switch of another tool is not its value
        return unknown(Given(name, value or True, name))
    ours = OPTIONS.get(normalize(name), "")
    near = ours if ours in options else nearest(normalize(name), [*options])
    remedies = (Remedy(f"--{near.replace('_', '-')}", options[near].help),) if near else ()
    return UsageError(
        f"unknown option {name}",
        cause=Cause.UNEXPECTED_ARGUMENT,
        have=name,
        need="an option of this command",
        remedies=remedies or (Remedy("--help", "lists all options"),),
    )
