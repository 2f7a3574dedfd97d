"""Run placement: new, resumed or finished, and differences from an existing plan."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, Finding, Remedy, UsageError
from headway.base.files import unused_path
from headway.base.lock import is_held
from headway.base.units import plural
from headway.config.run_name import append_to_name
from headway.model.kernels.compile_level import CompileLevel
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import Settled, load_settled, planned_level

_MAX_RUNS = 10_000  # of one name
_MOST_NAMED = 20  # files in a command; with more, it names the sources as they were typed
_LONGEST_CHAIN = 10_000  # runs that continue each other


@dataclass(frozen=True)
class Placement:
    """The folder a plan runs in: new, to be resumed, or already done."""

    folder: RunFolder
    kind: Literal["new", "resume", "done"]
    note: str = ""  # one line to show, "" if there is none
    finding: Finding | None = None  # to show with the plan

    def resumed(self, requested: Plan) -> tuple["Placement", Plan, Settled]:
        """The placement with its note, the plan, and the settled values of a run that resumes.

        The plan is that of its first start; a run that does not resume has the one requested.
        """
        if self.kind != "resume":
            return self, requested, Settled.from_plan(requested)
        plan = self.folder.plan() or requested
        settled, note = carry_over(load_settled(self.folder.path, plan), requested)
        return replace(self, note=note), plan, settled

    def shown(self, plan: Plan, settled: Settled) -> Plan:
        """The plan as it is shown: with what is settled, and what its folder tells."""
        told = (*plan.findings, *([self.finding] if self.finding else []))
        return replace(settled.applied_to(plan), findings=told)


def place(
    plan: Plan, output_dir: Path, *, named: bool, fresh: bool, saves: bool = False
) -> Placement:
    """Decide which folder a plan runs in. Nothing is written.

    Args:
        plan: to be run; its name is the preferred folder name.
        output_dir: where runs are.
        named: whether a person chose the name; then no other folder is used.
        fresh: start over; the folder is still to be moved aside.
        saves: it is only to be saved there; remedies are commands that do that.

    Raises:
        UsageError: the named run has a different plan.
    """
    first = _numbered(output_dir, plan.name, 1)
    if fresh:
        return Placement(first, "new")
    differences, others = "", list[RunFolder]()
    for number in range(1, _MAX_RUNS):
        folder = _numbered(output_dir, plan.name, number)
        if not folder.path.exists() or folder.has_only_begun:
            note = (
                f"{first.path} {differences}; this run is {folder.path.name}" if differences else ""
            )
            return Placement(folder, "new", note, _new_data(others, plan, folder))
        before = folder.plan()
        if before and before.identity == plan.identity:
            return Placement(folder, "done" if folder.is_finished else "resume")
        differences = differences or "has " + difference(before, plan)
        others.append(folder)
        if named:
            raise _taken(folder, plan, differences, saves=saves)
    raise AssertionError("ten thousand runs of one name")


def plans_of(name: str, output_dir: Path) -> list[Plan]:
    """The plans of the runs that `place` would compare with a plan of this name, in its order."""
    found: list[Plan] = []
    for number in range(1, _MAX_RUNS):
        folder = _numbered(output_dir, name, number)
        if not folder.path.exists():
            break
        plan = folder.plan()
        found += [plan] if plan else []
    return found


def _new_data(others: list[RunFolder], plan: Plan, folder: RunFolder) -> Finding | None:
    """What to type instead if a part of the data has been trained already."""
    parent = plan.model.parent
    new = find_new_data([RunFolder(Path(parent.run))] if parent else others, plan)
    return new.finding(plan, folder.path.name) if new else None


def _numbered(output_dir: Path, name: str, number: int) -> RunFolder:
    return RunFolder(output_dir / (name if number == 1 else f"{name}-{number}"))


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
    if _is_requested(requested, "torch_compile") and compiled != settled.compiled.compiles:
        notes.append(f"compiling {'on' if compiled else 'off'}")
        level = planned_level(requested)
        if compiled and settled.has_tried:  # nothing would compare whole layers any more
            level = CompileLevel.OPERATIONS
        settled = replace(settled, compiled=level)
    deterministic = requested.machine.deterministic
    if deterministic != settled.deterministic:
        notes.append(f"deterministic kernels {'on' if deterministic else 'off'}")
        settled = replace(settled, deterministic=deterministic)
    now = Settled.from_plan(requested)
    if requested.choice("nproc").origin == "auto":  # and its threads are in plan.json
        now = replace(now, workers=settled.workers, groups=settled.groups)
    settled = replace(settled, max_time_s=now.max_time_s, grace_s=now.grace_s)
    settled = replace(settled, on_stall=now.on_stall)
    settled = replace(settled, store=now.store, stream=now.stream)
    settled = replace(settled, model=now.model, base=now.base, parent=now.parent)
    if (now.reduction, settled.reduction) != ("tree", "tree") and _is_other_sum(settled, now):
        notes.append(f"gradients added by {now.reduction}, over {plural(now.workers, 'worker')}")
    settled = replace(settled, workers=now.workers, groups=now.groups, reduction=now.reduction)
    what = " and ".join(notes)
    return settled, f"from here on with {what}: the same within rounding" if what else ""


def _is_other_sum(before: Settled, now: Settled) -> bool:
    """Whether gradients are added in another order, outside the tree that all plans share."""
    order = [(one.reduction, one.workers, one.groups) for one in (before, now)]
    return order[0] != order[1]


def _is_requested(plan: Plan, name: str) -> bool:
    choice = plan.choice(name)
    return choice.origin not in {"default", "auto"} and choice.inherited is None


def difference(before: Plan | None, now: Plan) -> str:
    """How an earlier plan differs from this one, in a few words."""
    if before is None:
        return "no readable plan"
    if before.data.fingerprint != now.data.fingerprint:
        return "other data" + _changed_sources(before.data.contents, now.data.contents)
    old = {c.name: c.value for c in before.settings}
    changed = [
        f"{c.name} {_display_value(old.get(c.name))}"
        for c in now.settings
        if c.name in old and _plain(old[c.name]) != _plain(c.value)
    ]
    return "other settings (" + ", ".join(changed[:4]) + ")" if changed else "another model"


def _changed_sources(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The sources that differ."""
    changed = [f"{name} changed" for name in now if before.get(name, now[name]) != now[name]]
    new = [f"{name} is new" for name in now if name not in before]
    missing = [f"{name} is missing" for name in before if name not in now]
    all_changes = [*changed, *new, *missing]
    more = [f"and {len(all_changes) - 3} more"] if len(all_changes) > 3 else []
    return f" ({', '.join([*all_changes[:3], *more])})" if all_changes else ""


def _plain(value: object) -> object:
    """The value as it is read from plan.json, without tuples."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _display_value(value: object) -> str:
    return "none" if value is None else str(value)


def _taken(folder: RunFolder, plan: Plan, differences: str, *, saves: bool) -> UsageError:
    name, sources = append_to_name(plan.name, "-2"), " ".join(plan.data.sources)
    new = find_new_data([folder], plan)
    if saves:
        head, run, option = f"headway plan {sources}", str(folder.path), "--save"
        second = f"--save {shlex.quote(str(folder.path.with_name(name)))}"
        files = " ".join(map(shlex.quote, new.files)) if new and new.is_short else sources
        goes_on = f"headway plan {files} --continue {shlex.quote(run)} {second}"
    else:
        head, run, option = f"headway train {sources}", plan.name, "--run-name"
        second = f"--run-name {shlex.quote(name)}"
        on = f"{head} --continue {shlex.quote(run)}"
        goes_on = new.command(plan, name) if new else on
    what = "trains what is new, on top of its weights" if new else "continues from its weights"
    return UsageError(
        f"run {plan.name} already exists with a different plan",
        cause=Cause.RUN_EXISTS,
        have=f"{folder.path} {differences}",
        need="a new name, or --fresh to start over",
        remedies=(
            Remedy(f"{head} {second}", "keeps both"),
            Remedy(f"{head} {option} {shlex.quote(run)} --fresh", "moves the old run aside"),
            Remedy(goes_on, what),
        ),
    )


def move_aside(folder: RunFolder, now_s: float | None = None) -> Path | None:
    """Rename an old run folder; returns its new path, None if there was none.

    Raises:
        UsageError: a process is training it.
    """
    if not folder.path.exists():
        return None
    if is_held(folder.lock):
        raise UsageError(
            f"{folder.path} is being trained right now",
            cause=Cause.RUN_ACTIVE,
            have="a running process",
            need="a run that has ended",
            remedies=(Remedy(f"headway stop {folder.path}", "then --fresh again"),),
        )
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
    name = f"{folder.path.name}.old-{stamp}"
    aside = unused_path(folder.path.with_name(name))
    with disk_errors(folder.path):
        folder.path.rename(aside)
    return aside


# ---- new files beside those that a run has trained -----------------------------------------------


@dataclass(frozen=True)
class NewData:
    """Files that a finished run has not trained, beside files that it has.

    Attributes:
        run: that trained the others, by itself or through the runs that it continues.
        files: that are new, as they can be typed.
        num_trained: of the others.
    """

    run: RunFolder
    files: tuple[str, ...]
    num_trained: int

    @property
    def is_short(self) -> bool:
        """Whether a command can name all of them."""
        return len(self.files) <= _MOST_NAMED

    def command(self, plan: Plan, run_name: str) -> str:
        """What to type to train them on top of that run."""
        files = self.files if self.is_short else plan.data.sources
        words = [*files, "--continue", self.run.path.name]
        words += ["--run-name", run_name]
        folder = str(self.run.path.parent)
        words += ["--output-dir", folder] if folder != "runs" else []
        return "headway train " + " ".join(map(shlex.quote, words))

    def finding(self, plan: Plan, run_name: str) -> Finding:
        """What a person should know before the old files are trained once more."""
        name, again = self.run.path.name, "again" if plan.model.parent else "from scratch"
        more = f" and {len(self.files) - 3} more" if len(self.files) > 3 else ""
        return Finding(
            "warning",
            f"run {name} has trained {self.num_trained} of these files"
            f" already; this run trains all {self.num_trained + len(self.files)} {again}",
            have=f"new: {', '.join(self.files[:3])}{more}",
            need="",
            remedies=(
                Remedy(self.command(plan, run_name), f"trains what is new, on top of {name}"),
            ),
        )


def find_new_data(runs: list[RunFolder], plan: Plan) -> NewData | None:
    """The newest of some runs that has trained a part of a plan's files, all of them unchanged.

    Args:
        runs: that may have, the newest last.
        plan: of a run that is about to start.
    """
    for run in reversed(runs):
        before, root = _trained(run)
        now = plan.data.contents
        is_part = before and all(now.get(name) == content for name, content in before.items())
        if not is_part or len(before) == len(now) or not run.is_finished:
            continue
        if plan.model.parent or (root and _is_same_start(root, plan)):
            new = tuple(name for name in now if name not in before)
            return NewData(run, new, len(before))
    return None


def _trained(run: RunFolder) -> tuple[dict[str, str], Plan | None]:
    """The files that a run and those it continues have trained, and the first plan of them."""
    contents: dict[str, str] = {}
    root: Plan | None = None
    for _ in range(_LONGEST_CHAIN):
        plan = run.plan()
        if plan is None:
            break
        root, contents = plan, {**plan.data.contents, **contents}
        if plan.model.parent is None:
            break
        run = RunFolder(Path(plan.model.parent.run))
    return contents, root


def _is_same_start(root: Plan, plan: Plan) -> bool:
    """Whether both train the same weights, or new ones."""
    first, now = root.model, plan.model
    return (first.source, first.weights_sha256) == (now.source, now.weights_sha256)
