"""A run's folder and its checkpoints: find, verify, prune, back up."""

import contextlib
import difflib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.errors import Remedy, UsageError
from headway.base.files import disk_errors, is_held, point, verify_folder
from headway.trainer.plan import Plan, load_plan
from headway.trainer.receipt import Measured

STATE_SCHEMA = "headway.checkpoint/1"


@dataclass(frozen=True)
class State:
    """`headway.json` in a checkpoint: where the run stands, in one small value.

    The order is a function of the step, so the cursor is `job_step`; all else is what the receipt
    adds up.
    """

    schema: str
    global_step: int
    job_step: int  # finished steps of this job
    epoch: float
    step_in_epoch: int
    optimizer_steps: int  # updates that AdamW's moments have seen
    row_sum: int  # sum of hash64(row, epoch) over applied rows, modulo 2**64
    applications: int  # applied rows
    input_tokens: int
    trained_tokens: int
    computed_tokens: int
    step_seconds: float
    probe_before: Measured
    held_out_before: Measured | None
    loss_first: float | None
    loss_last: float | None
    grad_norm_first: float | None
    grad_norm_last: float | None
    no_gradient_yet: tuple[str, ...]  # trainable tensors without a non-zero gradient so far
    plan: str  # identities and fingerprints, to compare before going on
    data: str
    tokenizer: str
    parent: str  # the checkpoint this job began from, "" for none
    versions: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoint-N` folder."""

    path: Path
    global_step: int

    def state(self) -> State:
        """Where the run stood.

        Raises:
            OSError: there is no headway.json.
            msgspec.ValidationError: it is not one of this version.
        """
        return msgspec.json.decode((self.path / "headway.json").read_bytes(), type=State)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; reading it never changes it."""

    path: Path

    @property
    def events(self) -> Path:
        """The append-only log."""
        return self.path / "events.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the live owner."""
        return self.path / "run.lock"

    @property
    def model(self) -> Path:
        """A link to the newest checkpoint that verified."""
        return self.path / "model"

    @property
    def finished(self) -> bool:
        """Whether the job reached its last step, by the receipt."""
        try:
            receipt = msgspec.json.decode((self.path / "receipt.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            return False
        return receipt.get("outcome") == "finished"

    def plan(self) -> Plan | None:
        """What was decided at the first start; None where that cannot be read."""
        try:
            return load_plan(self.path)
        except (OSError, msgspec.MsgspecError):
            return None

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoint folders, oldest first, verified or not."""
        found = [
            Checkpoint(path, int(name[1]))
            for path in self.path.glob("checkpoint-*")
            if (name := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
        ]
        return sorted(found, key=lambda c: c.global_step)

    def newest_verified(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and what is wrong with those passed over."""
        problems: list[str] = []
        for checkpoint in reversed(self.checkpoints()):
            wrong = verify_folder(checkpoint.path)
            if not wrong:
                return checkpoint, problems
            problems.append(f"{checkpoint.path.name}: {wrong[0]}")
        return None, problems

    def acknowledge(self, checkpoint: Path, keep: int) -> None:
        """Point `model` at a checkpoint that was read back, then delete all but the newest."""
        point(self.model, checkpoint)
        for old in self.checkpoints()[:-keep]:
            if old.path != checkpoint:
                shutil.rmtree(old.path, ignore_errors=True)

    def sweep(self) -> None:
        """Delete temporary folders that a killed run left."""
        for leftover in self.path.glob(".checkpoint-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def find_run(run: str | None, output_dir: Path) -> RunFolder:
    """A run by name or folder; the newest one where none is named.

    Raises:
        UsageError: there is no such run.
    """
    runs = list_runs(output_dir)
    if run is None:
        if not runs:
            raise UsageError(
                f"there is no run in {output_dir}",
                have="no runs",
                need="a run to look at",
                remedies=(
                    Remedy("headway demo", "a first one, in three minutes"),
                    Remedy("--output-dir DIR", "if they are elsewhere"),
                ),
            )
        return runs[0]
    for path in (output_dir / run, Path(run)):
        if is_run(path):
            return RunFolder(path)
        # a checkpoint, or the `model` link, stands for its run
        if (path / "headway.json").is_file() and is_run(path.resolve().parent):
            return RunFolder(path.resolve().parent)
    names = [r.path.name for r in runs]
    near = difflib.get_close_matches(run, names, n=2) or names[:3]
    raise UsageError(
        f"there is no run called {run}",
        have=f"{', '.join(names[:6])}" if names else f"no runs in {output_dir}",
        need="the name or the folder of a run",
        remedies=tuple(Remedy(name) for name in near) or (Remedy("headway runs"),),
    )


def is_run(path: Path) -> bool:
    """Whether a folder is a run's."""
    return (path / "plan.json").is_file()


def list_runs(output_dir: Path) -> list[RunFolder]:
    """All runs in a folder, the one with the newest event first."""

    def latest(run: RunFolder) -> float:
        with contextlib.suppress(OSError):
            return run.events.stat().st_mtime
        return run.path.stat().st_mtime

    if not output_dir.is_dir():
        return []
    runs = [RunFolder(path) for path in output_dir.iterdir() if path.is_dir() and is_run(path)]
    return sorted(runs, key=latest, reverse=True)


@dataclass(frozen=True)
class Place:
    """Where a plan goes: a new folder, one to resume in, or one that has done it already."""

    folder: RunFolder
    kind: Literal["new", "resume", "done"]
    note: str = ""  # one line for a person, "" when there is nothing to say


def place(plan: Plan, output_dir: Path, *, named: bool, fresh: bool) -> Place:
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
        return Place(first, "new")
    differences = ""
    for number in range(1, 10_000):
        folder = first if number == 1 else RunFolder(output_dir / f"{plan.name}-{number}")
        if not folder.path.exists():
            note = (
                f"{first.path} {differences}; this run is {folder.path.name}" if differences else ""
            )
            return Place(folder, "new", note)
        before = folder.plan()
        if before and before.identity == plan.identity:
            return Place(folder, "done" if folder.finished else "resume")
        differences = differences or "has " + difference(before, plan)
        if named:
            raise _taken(folder, plan, differences)
    raise AssertionError("ten thousand runs of one name")


def difference(before: Plan | None, now: Plan) -> str:
    """In a few words, how an earlier plan differs from this one."""
    if before is None:
        return "no readable plan"
    if before.data.fingerprint != now.data.fingerprint:
        return "other data"
    old = {c.name: c.value for c in before.settings}
    changed = [
        f"{c.name} {_shown(old.get(c.name))}"
        for c in now.settings
        if c.name in old and _plain(old[c.name]) != _plain(c.value)
    ]
    return "other settings (" + ", ".join(changed[:4]) + ")" if changed else "another model"


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
