"""A run's folder and its checkpoints: find, verify, prune, put away."""

import contextlib
import difflib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Remedy, UsageError
from headway.base.files import delete_folder, make_folder, point, sync_folder, verify_folder
from headway.base.versioned_json import read
from headway.data.stream.cursor import StreamCursor
from headway.runs.plan import Plan, SavesPlan, load_plan
from headway.runs.receipt import Measured

STATE_SCHEMA = "headway.checkpoint/1"


@dataclass(frozen=True)
class CheckpointState:
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
    held_out: Measured | None = None  # after this very step, where it was looked at
    cursor: StreamCursor | None = None  # of a flow: where the next step's window begins
    read_cursor: StreamCursor | None = None  # of a flow: the end of the last step's window


@dataclass(frozen=True)
class Checkpoint:
    """One `checkpoint-N` folder."""

    path: Path
    global_step: int

    def state(self) -> CheckpointState:
        """Where the run stood.

        Raises:
            OSError: there is no headway.json.
            msgspec.MsgspecError: it is not one.
            UsageError: it is one of a newer Headway.
        """
        return read(self.path / "headway.json", CheckpointState, STATE_SCHEMA)

    def held_out(self) -> float | None:
        """The held-out loss at its step; None where nobody looked, or it cannot be read."""
        try:
            measured = self.state().held_out
        except (OSError, msgspec.MsgspecError, UsageError):
            return None
        return measured.mean if measured else None


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

    @property
    def barely_begun(self) -> bool:
        """Whether a start made this folder and was killed before it had written the plan."""
        if not self.path.is_dir():
            return False
        first = {self.lock.name, "run.yaml", "rejected.jsonl"}  # what comes before the plan
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        return names <= first

    def plan(self) -> Plan | None:
        """What was decided at the first start; None where that cannot be read.

        Raises:
            UsageError: a newer Headway decided it.
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

    def newest_verified(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and what is wrong with those passed over."""
        problems: list[str] = []
        for checkpoint in reversed(self.checkpoints()):
            wrong = verify_folder(checkpoint.path)
            if not wrong:
                return checkpoint, problems
            problems.append(f"{checkpoint.path.name}: {wrong[0]}")
        return None, problems

    def acknowledge(self, checkpoint: Path, saves: SavesPlan, first: int) -> None:
        """Point `model` at a checkpoint that was read back, then delete what need not be kept.

        Args:
            checkpoint: the newest.
            saves: how many are kept.
            first: global step before the job.
        """
        point(self.model, checkpoint)
        with disk_errors(self.path):
            there = self.checkpoints()
        stay = kept({c.global_step: c.held_out() for c in there}, saves, first)
        for old in there:
            if old.global_step not in stay and old.path != checkpoint:
                delete_folder(old.path)

    def quarantine(self, checkpoint: Path) -> Path:
        """Move a checkpoint that does not verify out of the way; where it is now.

        Raises:
            MachineError: it cannot be moved.
        """
        shelf = self.path / "quarantine"
        make_folder(shelf)
        moved, number = shelf / checkpoint.name, 1
        while moved.exists():
            number += 1
            moved = shelf / f"{checkpoint.name}-{number}"
        with disk_errors(checkpoint):
            checkpoint.rename(moved)
            sync_folder(self.path)
        return moved

    def sweep(self) -> None:
        """Delete what a killed run left half written or half deleted."""
        for leftover in self.path.glob(".checkpoint-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)


def kept(held_out: Mapping[int, float | None], saves: SavesPlan, first: int) -> set[int]:
    """Which checkpoints stay: the newest, the best by held-out loss, and every so many steps.

    Args:
        held_out: loss by global step, None where it was not looked at.
        saves: how many newest ones, and every how many steps of the job.
        first: global step before the job.
    """
    steps = sorted(held_out)
    stay = set(steps[-saves.keep :])
    if saves.keep_every:
        stay |= {step for step in steps if (step - first) % saves.keep_every == 0}
    looked_at = [(loss, -step) for step, loss in held_out.items() if loss is not None]
    return stay | {-step for _, step in sorted(looked_at)[:1]}


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
