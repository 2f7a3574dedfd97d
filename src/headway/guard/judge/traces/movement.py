"""Movement of weights: whether what a run saved last differs from what it began with."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headway.base.foreign.tensors import STORAGE, Comparison, Tensors, compare
from headway.guard.judge.traces.moments import compare_without_moments
from headway.guard.judge.traces.saved_models import SavedModel, by_series

_STATISTICS = re.compile(r"running_mean|running_var|num_batches_tracked")
MAX_COMPARED_BYTES = 8 << 30  # beyond it, nothing is reported as equal


@dataclass(frozen=True)
class Movement:
    """What comparing saved weights showed.

    Attributes:
        moved: whether some model moved; None if there was nothing to compare, or too much.
        first, last: two that are equal, where none moved.
        num_tensors: that were compared there.
    """

    moved: bool | None = None
    first: Path | None = None
    last: Path | None = None
    num_tensors: int = 0


NO_MOVEMENT = Movement()  # nothing to tell


def find_movement(
    models: tuple[SavedModel, ...],
    tensors_of: Callable[[Path], Tensors],
    resumed: Path | None,
    base: Path | None,
) -> Movement:
    """Compare the first and the last model of each series; a single one with where it began.

    Args:
        models: that the run saved.
        tensors_of: of a file or folder that models lie in; none if they cannot be read.
        resumed: the checkpoint that it resumed from.
        base: the folder of the model that it was given.
    """
    found = NO_MOVEMENT
    for first, last, needs_all in _pairs(models, resumed, base):
        before, after = tensors_of(first), tensors_of(last)
        if needs_all and before.keys() != after.keys():
            continue
        try:
            compared = _compared(before, after)
        except OSError:
            return NO_MOVEMENT
        if compared.differs:
            return Movement(moved=True)
        if compared.differs is None:
            return NO_MOVEMENT
        if compared.is_equal and found.moved is None:
            found = Movement(False, first, last, compared.num_tensors)
    return found


def _compared(before: Tensors, after: Tensors) -> Comparison:
    """Compare weights alone: statistics of batches move without training, and so do moments."""
    first = {name: one for name, one in before.items() if not _STATISTICS.search(name)}
    compared = compare(first, after, MAX_COMPARED_BYTES)
    if compared.differs and all(name.startswith(STORAGE) for name in first):
        return compare_without_moments(first, after, MAX_COMPARED_BYTES)
    return compared


def _pairs(
    models: tuple[SavedModel, ...], resumed: Path | None, base: Path | None
) -> Iterator[tuple[Path, Path, bool]]:
    """What to compare: (before, after, whether both must have the same tensors).

    A new head on a frozen body leaves all tensors equal that it shares with its base.
    """
    for group in by_series(models):
        first, last = group[0], group[-1]
        if len(group) > 1:
            yield first.path, last.path, False
        elif resumed and last.numbers:
            yield resumed, last.path, False
        elif base:
            yield base, last.path, True
