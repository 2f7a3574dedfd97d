"""Meaning of another tool's setting: ours, not needed, or not here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What becomes of a line that was written for another tool."""

    RENAMED = "renamed"  # a Headway setting says the same
    NOT_NEEDED = "not needed"  # leaving it out changes nothing
    NOT_HERE = "not here"  # Headway cannot do it


@dataclass(frozen=True)
class Answer:
    """One line of another tool, in our words.

    Attributes:
        outcome: what becomes of it.
        lines: our settings and their values: what to write instead.
        because: why it is not needed, or what Headway does instead of it.
        decides: whether a model trained without it differs from the one that was asked for.
        exact: whether the values of `lines` say what was asked for; otherwise they are examples.
    """

    outcome: Outcome
    lines: tuple[tuple[str, str], ...] = ()
    because: str = ""
    decides: bool = False
    exact: bool = True


@dataclass(frozen=True)
class Meaning:
    """What some names of other tools mean.

    Attributes:
        names: normalized, separated by white space.
        outcome: of any value that is not in `values`.
        ours: our setting, for a name that is renamed; two for a list of two values.
        because, decides: as in `Answer`.
        lines: what to write instead of a name that is not here.
        values: their value, in lower case -> ours, or what becomes of it. A value of a renamed
            setting that is not listed is ours as it stands.
        convert: their value -> ours, where a rule is shorter than a list.
    """

    names: str
    outcome: Outcome
    ours: str = ""
    because: str = ""
    decides: bool = False
    lines: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, str | Answer] = field(default_factory=dict[str, str | Answer])
    convert: Callable[[str], str] | None = None


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def renamed(
    ours: str,
    names: str,
    values: Mapping[str, str | Answer] | None = None,
    convert: Callable[[str], str] | None = None,
) -> Meaning:
    """Names of our setting `ours`."""
    return Meaning(names, Outcome.RENAMED, ours, values=values or {}, convert=convert)


def not_needed(because: str, names: str, values: Mapping[str, Answer] | None = None) -> Meaning:
    """Names that can be left out."""
    return Meaning(names, Outcome.NOT_NEEDED, because=because, values=dict(values or {}))


def not_here(
    because: str,
    names: str,
    *,
    decides: bool = True,
    lines: tuple[tuple[str, str], ...] = (),
    values: Mapping[str, Answer] | None = None,
) -> Meaning:
    """Names of what Headway cannot do; turned off, they are not needed."""
    return Meaning(
        names,
        Outcome.NOT_HERE,
        because=because,
        decides=decides,
        lines=lines,
        values=dict(values or {}),
    )


def needless(because: str) -> Answer:
    """A value that can be left out."""
    return Answer(Outcome.NOT_NEEDED, because=because)


def missing(because: str, *lines: tuple[str, str], decides: bool = True) -> Answer:
    """A value that Headway cannot do."""
    return Answer(Outcome.NOT_HERE, lines, because, decides)


def write(*lines: tuple[str, str]) -> Answer:
    """A value that these Headway settings express."""
    return Answer(Outcome.RENAMED, lines)
