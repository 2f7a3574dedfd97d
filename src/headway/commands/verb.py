"""Verb: usage, help, options and function, and helpers that all verbs share."""

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.config.command_line import Arguments, Switch

OUTPUT_DIR = {"output_dir": Switch("folder with the runs", "DIR", "runs", "o")}
GROUPS = ("start", "look", "use", "keep", "set up")  # in the order of the overview


@dataclass(frozen=True)
class Verb:
    """One command: `headway VERB ...`.

    Attributes:
        usage: the verb and its arguments. One that lists arguments checks them itself; the others
            are called without: no verb ignores a word.
        help: one line.
        run: returns the exit code. Imports what it uses when it is called, so that other verbs
            and the first line do not wait for it.
        options: its own switches.
        settings: whether it takes every setting as a flag.
        runs_command: whether its first word begins somebody's command, with options of its own.
        group: one of `GROUPS`.
        about: what it does, in one to three sentences.
        examples: three command lines, each with what it does.
    """

    usage: str
    help: str
    run: Callable[[Arguments], int]
    options: Mapping[str, Switch]
    settings: bool = False
    runs_command: bool = False
    group: str = ""
    about: str = ""
    examples: tuple[tuple[str, str], ...] = ()

    def __call__(self, arguments: Arguments) -> int:
        """Do it; returns the exit code.

        Raises:
            UsageError: it takes no arguments, and got some.
        """
        if arguments.words and " " not in self.usage:
            raise unexpected(self.usage, arguments.words)
        return self.run(arguments)


def unexpected(usage: str, words: Sequence[str]) -> UsageError:
    """The refusal of words that a command has no use for.

    Args:
        usage: the command as it is typed.
        words: those it cannot use.
    """
    return UsageError(
        f"headway {usage} takes no arguments",
        cause=Cause.UNEXPECTED_ARGUMENT,
        have=" ".join(words),
        need=f"headway {usage}",
        remedies=(
            Remedy(f"headway {usage}"),
            Remedy(f"headway {usage} --help", "shows its options"),
        ),
    )


def one_run(arguments: Arguments) -> str | None:
    """The run that was named; None for the newest.

    Raises:
        UsageError: several were.
    """
    words = arguments.words
    if len(words) > 1:
        raise UsageError(
            "one run at a time",
            cause=Cause.UNEXPECTED_ARGUMENT,
            have=" ".join(words),
            need="one name or folder, or none for the newest run",
            remedies=tuple(Remedy(word) for word in words[:2]),
        )
    return words[0] if words else None


def number(switches: Mapping[str, str], name: str, default: float) -> float:
    """A switch's number; whole if its default is.

    Raises:
        UsageError: it is none, or below 0.
    """
    if name not in switches:
        return default
    try:
        value = float(switches[name].replace("_", "").replace(",", ""))
    except ValueError:
        value = -1.0
    whole = isinstance(default, int)
    if not 0 <= value < math.inf or (whole and value != int(value)):
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"{flag}: {switches[name] or 'nothing'} is not a valid number",
            cause=Cause.INVALID_VALUE,
            have=switches[name] or "no value",
            need="a whole number, 0 or more" if whole else "a number, 0 or more",
            remedies=(Remedy(f"{flag} {default}"),),
        )
    return int(value) if whole else value


def output_dir(arguments: Arguments) -> Path:
    """The folder with the runs."""
    return Path(arguments.switches.get("output_dir", "runs"))


def print_text(text: str) -> bool:
    """Text on standard output, at once.

    What reads it may have left (`headway logs | head`): that changes no exit code. Only standard
    output is excused like this; a broken pipe to another process is a failure.

    Returns:
        Whether somebody reads it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def print_lines(lines: Sequence[str]) -> bool:
    """Lines on standard output, at once; returns whether somebody reads them."""
    return print_text("\n".join(lines) + "\n")


def print_json(value: object) -> None:
    """One indented JSON value on standard output."""
    import msgspec

    print_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def terminal_width() -> int:
    """Columns to set text in on standard output."""
    from headway.ui.output import columns, text_width

    return text_width(columns(sys.stdout, os.environ))
