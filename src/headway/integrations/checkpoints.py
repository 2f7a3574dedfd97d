"""Checkpoints of a Trainer: whether they can be read, and what their weight files are."""

from dataclasses import dataclass, replace
from pathlib import Path

from headway.base.errors import BrokenContract, Cause, Refusal, Remedy
from headway.base.files import hash_file
from headway.base.units import count, plural
from headway.integrations.weight_audit import WeightAudit
from headway.model.safetensors_index import read_header, weight_files
from headway.runs.watched.watched_receipt import SeenCheckpoint


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint, and what is wrong with the weights that were saved in it."""

    checkpoint: SeenCheckpoint
    problem: Refusal | None = None


def look_at_checkpoint(
    folder: Path, global_step: int, audit: WeightAudit | None
) -> FoundCheckpoint | None:
    """Look at a checkpoint that was just saved; None if it is somewhere else.

    Args:
        folder: where it should be.
        global_step: it was saved at.
        audit: of the weights that were saved; None if they cannot be read.
    """
    if not folder.is_dir():
        return None
    try:
        files = weight_files(folder)
        for file in files:
            read_header(file)
    except (OSError, ValueError) as error:
        damaged = SeenCheckpoint(str(folder.resolve()), global_step, 0, {}, str(error)[:200])
        return FoundCheckpoint(damaged, _unreadable(folder, str(error)))
    # Sharded trainers save in formats of their own: no weight file is nothing to complain about.
    num_bytes = sum(file.stat().st_size for file in files)
    checkpoint = SeenCheckpoint(str(folder.resolve()), global_step, num_bytes, {})
    nonfinite = audit.nonfinite() if audit is not None else []
    if not nonfinite:
        return FoundCheckpoint(checkpoint)
    why = f"{plural(len(nonfinite), 'tensor')} with numbers that are not finite"
    return FoundCheckpoint(replace(checkpoint, problem=why), _spoiled(folder, nonfinite))


def with_hashes(checkpoint: SeenCheckpoint) -> SeenCheckpoint:
    """The same with the hashes of its weight files; as it is if it was deleted or is damaged."""
    if checkpoint.problem:
        return checkpoint
    folder = Path(checkpoint.folder)
    try:
        hashes = {file.name: hash_file(file).sha256 for file in weight_files(folder)}
    except (OSError, ValueError):
        return checkpoint
    return replace(checkpoint, sha256=hashes)


def _unreadable(folder: Path, why: str) -> BrokenContract:
    return BrokenContract(
        f"{folder.name} cannot be read back",
        cause=Cause.READ_BACK_FAILED,
        have=why[:200],
        need="weight files that are what their headers say",
        remedies=(Remedy(f"df -h {folder.parent}", "whether the disk is full"),),
    )


def _spoiled(folder: Path, nonfinite: list[str]) -> BrokenContract:
    return BrokenContract(
        f"{folder.name} holds weights that are not finite",
        cause=Cause.WEIGHTS_NOT_FINITE,
        have=f"{count(len(nonfinite))} such tensors, the first is {nonfinite[0]}",
        need="finite weights: from these, every further step gives NaN",
        remedies=(
            Remedy(f"rm -r {folder}", "then resume from the checkpoint before it"),
            Remedy("TrainingArguments(max_grad_norm=1.0)", "limits each update"),
        ),
    )
