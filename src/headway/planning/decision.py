"""One decision of the planner: its value, the settings it chose, and its findings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headway.base.errors import Finding, Remedy
from headway.config.settings import ChosenBy, Settings, printed_name, spellings
from headway.runs.plan import Choice

T = TypeVar("T")


@dataclass(frozen=True)
class Decision(Generic[T]):
    """What was decided, and why.

    Attributes:
        value: what the rest of the plan uses.
        choices: settings that the planner chose or adjusted; the others stay as given.
        findings: what the user should know about it.
    """

    value: T
    choices: tuple[Choice, ...] = ()
    findings: tuple[Finding, ...] = ()


def auto(name: str, value: object, reason: str) -> Choice:
    """A setting that was left to the planner."""
    return Choice(name, value, "auto", reason)


def adjusted(
    settings: Settings,
    name: str,
    value: T,
    what: str,
    *,
    asked: object,
    have: str,
    need: str,
    remedies: tuple[Remedy, ...],
) -> Decision[T]:
    """A setting that the data, the model or the run cannot take as given."""
    finding = Finding("adjusted", what, have=have, need=need, remedies=remedies)
    origin, reason = settings.origin(name), f"adjusted: {what}"
    choice = Choice(name, value, origin, reason, asked, settings.inherited.get(name))
    return Decision(value, (choice,), (finding,))


def all_choices(settings: Settings, decisions: Iterable[Decision[Any]]) -> tuple[Choice, ...]:
    """Every setting in the order of the table: as decided, or as given."""
    decided = {choice.name: choice for decision in decisions for choice in decision.choices}
    inherited: dict[str, ChosenBy] = {
        printed_name(spellings()[name]): by for name, by in settings.inherited.items()
    }
    return tuple(
        decided.get(name) or Choice(name, value, origin, inherited=inherited.get(name))
        for name, value, origin in settings.items()
    )


def all_findings(decisions: Iterable[Decision[Any]]) -> tuple[Finding, ...]:
    """The findings of all decisions, in their order."""
    return tuple(finding for decision in decisions for finding in decision.findings)
