"""Disk budget: which models of an inbox are deleted for it, and which never are."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ModelUse(IntEnum):
    """What a model is still good for; what is good for less is deleted first."""

    LEFT_OVER = 0  # of a file that failed, or was undone: nothing continues from it
    OLDER = 1  # undo could go back to it
    NEEDED = 2  # the current one, the newest, the one before it, or one that is being trained


@dataclass(frozen=True)
class StoredModel:
    """The checkpoints of one file's run."""

    number: int  # of its job
    bytes: int
    use: ModelUse


@dataclass(frozen=True)
class Pruning:
    """What is deleted.

    Attributes:
        numbers: of the jobs whose checkpoints go.
        excess: bytes that what stays takes above the budget; 0 if there is room.
    """

    numbers: frozenset[int]
    excess: int = 0


def choose_pruned(
    models: Sequence[StoredModel], num_kept: int | None, budget: int | None
) -> Pruning:
    """Decide which models are deleted.

    Args:
        models: those with checkpoints, oldest first.
        num_kept: how many models of files that are done may stay; None: all.
        budget: bytes for all checkpoints; None: any number.
    """
    done = [one for one in models if one.use is not ModelUse.LEFT_OVER]
    old = done[:-num_kept] if num_kept else []
    gone = {one.number for one in old if one.use is not ModelUse.NEEDED}
    if budget is None:
        return Pruning(frozenset(gone))
    total = sum(one.bytes for one in models if one.number not in gone)
    for one in sorted(models, key=lambda one: (one.use, one.number)):
        if total <= budget or one.use is ModelUse.NEEDED:
            break
        if one.number not in gone:
            gone.add(one.number)
            total -= one.bytes
    return Pruning(frozenset(gone), max(total - budget, 0))
