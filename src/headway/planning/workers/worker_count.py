"""Number of workers for `--nproc auto`: the fastest of those that this machine has measured."""

from collections.abc import Callable
from dataclasses import replace

from headway.base.errors import MachineError
from headway.config.settings import Settings
from headway.planning.compute import KnownMachine
from headway.planning.decision import auto
from headway.runs.measurements import LEAST_STEPS
from headway.runs.plan import Plan, WorkerSpeed

_SHORT_S = 600.0  # a run that is no longer may try a number of workers that is not measured


def with_fastest_workers(
    settings: Settings, facts: KnownMachine, plan_for: Callable[[Settings], Plan]
) -> Plan:
    """The plan with the number of workers that was fastest in earlier runs like it.

    Each run remembers its speed. Without any, one worker computes with all cores. A short run
    tries a number of workers that no run has measured; a long one takes the best of the others.

    Args:
        settings: as given, but for `nproc`.
        facts: cores of this machine, and its device.
        plan_for: makes the plan for settings with a number of workers.

    Raises:
        Refusal: no plan can be made, whatever the number of workers.
    """
    first, *more = _numbers(settings, facts)
    plans = [plan_for(replace(settings, nproc=first))]
    for number in more:
        try:
            plan = plan_for(replace(settings, nproc=number))
        except MachineError:  # each worker holds the whole model
            continue
        in_shards = plan.machine.reduction == "hsdp" and settings.reduction != "hsdp"  # no room
        if plan.steps.leaves >= number and not in_shards:  # else some would have nothing to do
            plans.append(plan)
    return _told(*_choose(plans), plans)


def _numbers(settings: Settings, facts: KnownMachine) -> list[int]:
    """Numbers of workers to choose from, with at least a core for each of their threads."""
    most = facts.machine.cores // (settings.threads or 1) if facts.device == "cpu" else 1
    first = settings.groups
    powers = (1 << exponent for exponent in range(1, max(most, 1).bit_length()))
    return [first, *(number for number in powers if first < number <= most)]


def _choose(plans: list[Plan]) -> tuple[Plan, str]:
    """The plan to take, and why."""
    measured = [plan for plan in plans if plan.time.tokens_per_second]
    others = [plan for plan in plans if not plan.time.tokens_per_second]
    remembers = plans[0].steps.num >= LEAST_STEPS
    if len(plans) == 1:
        return plans[0], "no other number can be kept busy here"
    if not measured:
        return plans[0], "nothing is measured here yet" + (", this run is" if remembers else "")
    best = max(measured, key=lambda plan: plan.time.tokens_per_second or 0.0)
    if others and remembers and (best.time.seconds or 0.0) <= _SHORT_S:
        return others[0], "not measured here yet, this run is"
    return best, "the fastest here" if len(measured) > 1 else "the only one measured here"


def _told(chosen: Plan, why: str, plans: list[Plan]) -> Plan:
    """The plan with what it was chosen from."""
    speeds = tuple(
        WorkerSpeed(one.machine.workers, one.machine.threads, one.time.tokens_per_second)
        for one in plans
    )
    choices = tuple(
        auto("nproc", chosen.machine.workers, why) if choice.name == "nproc" else choice
        for choice in chosen.settings
    )
    machine = replace(chosen.machine, alternatives=speeds)
    return replace(chosen, machine=machine, settings=choices)
