"""Run folder: find runs, list, verify, prune and quarantine their checkpoints."""

import contextlib
import difflib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, Remedy, UsageError
from headway.base.files import (
    FileProblem,
    delete_folder,
    make_folder,
    replace_link,
    sync_folder,
    unused_path,
    verify_folder,
)
from headway.runs import checkpoint_state
from headway.runs.checkpoint_state import CheckpointState, read_state
from headway.runs.plan import Plan, SavesPlan, load_plan
from headway.runs.watched.watched_run import is_watched

MOMENTS = "optimizer.safetensors"  # of a checkpoint
SHARDED_MOMENTS = "optimizer"  # a folder, if several workers held a model in shards


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoint-N` folder."""

    path: Path
    global_step: int

    @property
    def num_bytes(self) -> int:
        """Of all its files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    @property
    def moment_files(self) -> list[Path]:
        """The files with AdamW's moments: a single one, or one for each worker with shards."""
        shards = sorted((self.path / SHARDED_MOMENTS).glob("*.safetensors"))
        return shards or [self.path / MOMENTS]

    def state(self) -> CheckpointState:
        """Where the run stopped; raises what `read_state` raises."""
        return read_state(self.path)

    def held_out_loss(self) -> float | None:
        """The held-out loss at its step; None if it was not evaluated or cannot be read."""
        try:
            measured = self.state().held_out
        except (OSError, msgspec.MsgspecError, UsageError):
            return None
        return measured.mean if measured else None


@dataclass(frozen=True)
class DamagedCheckpoint:
    """A checkpoint that does not verify, and the first reason."""

    name: str
    problem: FileProblem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Reading it never changes it."""

    path: Path

    @property
    def events(self) -> Path:
        """The append-only log."""
        return self.path / "events.jsonl"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains the run."""
        return self.path / "run.lock"

    @property
    def model(self) -> Path:
        """A link to the newest checkpoint that verified."""
        return self.path / "model"

    @property
    def is_finished(self) -> bool:
        """Whether the receipt says that the job reached its last step."""
        try:
            receipt = msgspec.json.decode((self.path / "receipt.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            return False
        return receipt.get("outcome") == "finished"

    @property
    def has_only_begun(self) -> bool:
        """Whether a start created this folder and was killed before it wrote the plan."""
        if not self.path.is_dir():
            return False
        before_plan = {self.lock.name, "run.yaml", "rejected.jsonl"}
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        return names <= before_plan

    def plan(self) -> Plan | None:
        """The plan of the first start; None if it cannot be read.

        Raises:
            UsageError: a newer Headway wrote it.
        """
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

    def last_saved_step(self) -> int:
        """Step of the job that the newest checkpoint is at; 0 if there is none."""
        plan, checkpoints = self.plan(), self.checkpoints()
        return max(checkpoints[-1].global_step - plan.steps.first, 0) if plan and checkpoints else 0

    def newest_verified(self) -> tuple[Checkpoint | None, list[DamagedCheckpoint]]:
        """The newest checkpoint that verifies, and the problems of those skipped."""
        damaged: list[DamagedCheckpoint] = []
        for checkpoint in reversed(self.checkpoints()):
            problems = verify_folder(checkpoint.path)
            if not problems:
                return checkpoint, damaged
            damaged.append(DamagedCheckpoint(checkpoint.path.name, problems[0]))
        return None, damaged

    def publish_checkpoint(self, checkpoint: Path, saves: SavesPlan, first: int) -> None:
        """Point `model` at a checkpoint that was read back, then delete those no longer needed.

        Args:
            checkpoint: the newest.
            saves: how many are kept.
            first: global step before the job.
        """
        replace_link(self.model, checkpoint)
        with disk_errors(self.path):
            existing = self.checkpoints()
        losses = {c.global_step: c.held_out_loss() for c in existing}
        keep = checkpoints_to_keep(losses, saves, first)
        for old in existing:
            if old.global_step not in keep and old.path != checkpoint:
                delete_folder(old.path)

    def quarantine(self, checkpoint: Path) -> Path:
        """Move a damaged checkpoint into `quarantine/`; its new path.

        Raises:
            MachineError: it cannot be moved.
        """
        folder = self.path / "quarantine"
        make_folder(folder)
        moved = unused_path(folder / checkpoint.name)
        with disk_errors(checkpoint):
            checkpoint.rename(moved)
            sync_folder(self.path)
        return moved

    def delete_leftovers(self) -> None:
        """Delete what a killed run left half written or half deleted."""
        for folder in self.path.glob(".checkpoint-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self.path.glob(".*.tmp"):
            file.unlink(missing_ok=True)


def checkpoints_to_keep(
    losses: Mapping[int, float | None], saves: SavesPlan, first: int
) -> set[int]:
    """Global steps of the checkpoints to keep: the newest, the best, and every N steps.

    Args:
        losses: held-out loss by global step, None if it was not evaluated.
        saves: how many of the newest to keep, and N.
        first: global step before the job.
    """
    steps = sorted(losses)
    keep = set(steps[-saves.keep :])
    if saves.keep_every:
        keep |= {step for step in steps if (step - first) % saves.keep_every == 0}
    evaluated = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return keep | {-step for _, step in sorted(evaluated)[:1]}


def find_run(run: str | None, output_dir: Path) -> RunFolder:
    """Find a run by name or folder; the newest one if `run` is None.

    Raises:
        UsageError: there is no such run.
    """
    runs = list_runs(output_dir)
    if run is None:
        if not runs:
            raise _no_runs(output_dir)
        return runs[0]
    for path in (output_dir / run, Path(run)):
        if is_run(path):
            return RunFolder(path)
        # a checkpoint, or the `model` link, means its run
        if (path / checkpoint_state.FILE).is_file() and is_run(path.resolve().parent):
            return RunFolder(path.resolve().parent)
    raise _not_found(run, [r.path.name for r in runs], output_dir)


def is_run(path: Path) -> bool:
    """Whether a folder is a run's: of ours, or of another program that Headway watched."""
    return (path / "plan.json").is_file() or is_watched(path)


def list_runs(output_dir: Path) -> list[RunFolder]:
    """All runs in a folder, the one with the newest event first."""

    def last_event_s(run: RunFolder) -> float:
        with contextlib.suppress(OSError):
            return run.events.stat().st_mtime
        return run.path.stat().st_mtime

    if not output_dir.is_dir():
        return []
    runs = [RunFolder(path) for path in output_dir.iterdir() if path.is_dir() and is_run(path)]
    return sorted(runs, key=last_event_s, reverse=True)


def _no_runs(output_dir: Path) -> UsageError:
    return UsageError(
        f"no runs in {output_dir}",
        cause=Cause.RUN_NOT_FOUND,
        have="no folder with a plan.json" if output_dir.is_dir() else "no such folder",
        need="at least one run",
        remedies=(
            Remedy("headway demo", "makes a first one in a few minutes"),
            Remedy("--output-dir DIR", "if your runs are in another folder"),
        ),
    )


def _not_found(run: str, names: list[str], output_dir: Path) -> UsageError:
    near = difflib.get_close_matches(run, names, n=2) or names[:3]
    return UsageError(
        f"no run named {run}",
        cause=Cause.RUN_NOT_FOUND,
        have=", ".join(names[:6]) if names else f"no runs in {output_dir}",
        need="the name or folder of a run",
        remedies=tuple(Remedy(name) for name in near) or (Remedy("headway runs"),),
    )
