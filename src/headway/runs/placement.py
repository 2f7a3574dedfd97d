"""Where a plan goes: again, resume or new; and what differs from the plan that is there."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Remedy, UsageError
from headway.base.lock import is_held
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import Settled


@dataclass(frozen=True)
class Placement:
    """Where a plan goes: a new folder, one to resume in, or one that has done it already."""

    folder: RunFolder
    kind: Literal["new", "resume", "done"]
    note: str = ""  # one line for a person, "" when there is nothing to say


def place(plan: Plan, output_dir: Path, *, named: bool, fresh: bool) -> Placement:
    """Decide which folder a plan runs in: again, resume or new (nothing is written).

    Args:
        plan: what is to be done; its name is the wanted folder's.
        output_dir: where runs are.
        named: whether a person chose the name; then it is that folder or none.
        fresh: start over; the folder is still to be moved aside.

    Raises:
        UsageError: the named run was made by another plan.
    """
    first = RunFolder(output_dir / plan.name)
    if fresh:
        return Placement(first, "new")
    differences = ""
    for number in range(1, 10_000):
        folder = first if number == 1 else RunFolder(output_dir / f"{plan.name}-{number}")
        if not folder.path.exists() or folder.has_only_begun:
            note = (
                f"{first.path} {differences}; this run is {folder.path.name}" if differences else ""
            )
            return Placement(folder, "new", note)
        before = folder.plan()
        if before and before.identity == plan.identity:
            return Placement(folder, "done" if folder.is_finished else "resume")
        differences = differences or "has " + difference(before, plan)
        if named:
            raise _taken(folder, plan, differences)
    raise AssertionError("ten thousand runs of one name")


def carry_over(settled: Settled, requested: Plan) -> tuple[Settled, str]:
    """Settled values of a run that resumes, with what a resume may change.

    What was decided at the first start stays. Time limits, and what makes a run fit in memory, are
    taken from the request.

    Args:
        settled: of the run so far.
        requested: the plan as it would be made now.

    Returns:
        The settled values from here on, and a line to show, "" if there is none.
    """
    notes = list[str]()
    micro, before = requested.steps.micro_batch_tokens, settled.micro_batch_tokens
    if _is_requested(requested, "micro_batch_tokens") and micro != before:
        notes.append(f"micro-batches of {micro} tokens, {before} before")
        settled = replace(settled, micro_batch_tokens=micro)
    recompute = requested.machine.gradient_checkpointing
    if (
        _is_requested(requested, "gradient_checkpointing")
        and recompute != settled.gradient_checkpointing
    ):
        notes.append(f"gradient checkpointing {'on' if recompute else 'off'}")
        settled = replace(settled, gradient_checkpointing=recompute)
    compiled = requested.machine.compiled
    if _is_requested(requested, "torch_compile") and compiled != settled.compiled:
        notes.append(f"compiling {'on' if compiled else 'off'}")
        settled = replace(settled, compiled=compiled)
    settled = replace(settled, max_time_s=requested.max_time_s, grace_s=requested.grace_s)
    what = " and ".join(notes)
    return settled, f"from here on with {what}: the same within rounding" if what else ""


def _is_requested(plan: Plan, name: str) -> bool:
    return plan.choice(name).origin not in {"default", "auto"}


def difference(before: Plan | None, now: Plan) -> str:
    """In a few words, how an earlier plan differs from this one."""
    if before is None:
        return "no readable plan"
    if before.data.fingerprint != now.data.fingerprint:
        return "other data" + _changed(before.data.contents, now.data.contents)
    old = {c.name: c.value for c in before.settings}
    changed = [
        f"{c.name} {_shown(old.get(c.name))}"
        for c in now.settings
        if c.name in old and _plain(old[c.name]) != _plain(c.value)
    ]
    return "other settings (" + ", ".join(changed[:4]) + ")" if changed else "another model"


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which sources are not what they were."""
    changed = [f"{name} is another" for name in now if before.get(name, now[name]) != now[name]]
    new = [f"{name} is new" for name in now if name not in before]
    gone = [f"{name} is gone" for name in before if name not in now]
    told = [*changed, *new, *gone]
    more = [f"and {len(told) - 3} more"] if len(told) > 3 else []
    return f" ({', '.join([*told[:3], *more])})" if told else ""


def _plain(value: object) -> object:
    """As plan.json has it: no tuples."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _taken(folder: RunFolder, plan: Plan, differences: str) -> UsageError:
    sources = " ".join(plan.data.sources)
    return UsageError(
        f"run {plan.name} exists and is another one",
        have=f"{folder.path} {differences}",
        need="a new name, or leave to start over",
        remedies=(
            Remedy(f"headway train {sources} --run-name {plan.name}-2", "beside the old one"),
            Remedy(
                f"headway train {sources} --run-name {plan.name} --fresh", "moves the old one aside"
            ),
            Remedy(f"headway train {sources} --continue {plan.name}", "goes on from its weights"),
        ),
    )


def move_aside(folder: RunFolder, now_s: float | None = None) -> Path | None:
    """Give an old run folder another name; None when there was none.

    Raises:
        UsageError: it is being trained right now.
    """
    if not folder.path.exists():
        return None
    if is_held(folder.lock):
        raise UsageError(
            f"{folder.path} is being trained right now",
            have="a live run",
            need="a run that has ended",
            remedies=(Remedy(f"headway stop {folder.path}", "then --fresh again"),),
        )
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
    name = f"{folder.path.name}.old-{stamp}"
    aside = folder.path.with_name(name)
    number = 1
    while aside.exists():
        number += 1
        aside = folder.path.with_name(f"{name}-{number}")
    with disk_errors(folder.path):
        folder.path.rename(aside)
    return aside
