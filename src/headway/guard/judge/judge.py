"""Verdict on a finished command: what it did, from what it printed and left on disk."""

from pathlib import Path

from headway.base.errors import Finding
from headway.guard.facts import GuardFacts
from headway.guard.judge.rules.losses import losses
from headway.guard.judge.rules.models import models
from headway.guard.judge.rules.rates import rates
from headway.guard.judge.rules.resources import resources
from headway.guard.judge.rules.skipped_rows import skipped_rows
from headway.guard.judge.rules.unproven import stopped_short, unproven
from headway.guard.judge.rules.zero_steps import zero_steps
from headway.guard.judge.traces.case import read_case
from headway.guard.judge.traces.intent import Purpose

_NO_TRAINING = (Purpose.EVALUATE, Purpose.PREPARE)


def judge(facts: GuardFacts) -> tuple[Finding, ...]:
    """What a command really did; the worst first.

    Findings that are `refused` are why a command that reports success still failed; the others are
    warnings. What is done on purpose (evaluation, data preparation, a script that saves nothing) is
    no failure.

    Args:
        facts: as the guard saw them.
    """
    case = read_case(facts)
    if _judges_itself(facts.command):
        return tuple(resources(case))
    found = list(zero_steps(case))
    is_of_training = case.intent.purpose not in _NO_TRAINING
    if not found and is_of_training:
        for rule in (losses, rates, models, skipped_rows, stopped_short, unproven):
            found += rule(case)
    found += resources(case)
    return tuple(sorted(found, key=lambda finding: finding.kind != "refused"))


def _judges_itself(command: tuple[str, ...]) -> bool:
    """Whether it is Headway, whose receipt says more."""
    return "headway" in (Path(command[0]).name, *command[1:3])
