"""Replay: rows of earlier runs' data in the steps of a run, in addition to the step's own rows.

Which ones is a pure function of seed and step. They are numbered below zero, so that a run's own
rows are counted as if nothing else was there.
"""

from collections.abc import Sequence

import numpy as np

from headway.data.batching.listed_rows import ListedRow, ListedRows
from headway.data.batching.rows import Rows, Segment
from headway.data.order import MASK_64_BIT, Numbers, RowOrder, mix_key, permute, row_hash
from headway.data.replay_plan import ReplayPlan

_DRAW = 1 << 41  # and the place of the run: takes the place of the epoch when rows are drawn


def replayed_rows(plan: ReplayPlan, step: int) -> Numbers:
    """The numbers of the rows that a step (from 1) replays: each at most once in it."""
    draws = np.arange(_num_before(plan, step), _num_before(plan, step + 1))
    found = [_draw(plan, source, draws) for source in range(len(plan.sources))]
    return np.unique(np.concatenate(found))


def replay_totals(plan: ReplayPlan, num_steps: int) -> tuple[int, int]:
    """How many rows the first steps replay, and the sum of their hashes modulo 2**64."""
    num = row_sum = 0
    for step in range(1, num_steps + 1):
        rows = replayed_rows(plan, step)
        num, row_sum = num + len(rows), row_sum + row_hash(rows, 0)
    return num, row_sum & MASK_64_BIT


def _num_before(plan: ReplayPlan, step: int) -> int:
    return int((step - 1) * plan.batch_size * plan.share + 1e-9)


def _draw(plan: ReplayPlan, source: int, draws: Numbers) -> Numbers:
    """Those of the draws that one source gives: every row of it once, then every row again."""
    places = draws[draws % len(plan.sources) == source] // len(plan.sources)
    size = plan.sources[source].num_rows
    rows = permute(places % size, size, mix_key(plan.seed, _DRAW + source))
    first = sum(one.num_rows for one in plan.sources[:source])
    return -1 - (first + rows)


class ReplayOrder:
    """The order of a run that also replays rows."""

    def __init__(self, own: RowOrder, replay: ReplayPlan) -> None:
        self._own = own
        self._replay = replay

    def rows(self, step: int) -> tuple[int, Numbers]:
        """The epoch (from 0) of a step (from 1), its own rows, and those that it replays."""
        epoch, numbers = self._own.rows(step)
        return epoch, np.concatenate([numbers, replayed_rows(self._replay, step)])

    def held_out(self) -> Numbers:
        """The run's own rows that are never trained."""
        return self._own.held_out()


class ReplayRows(Rows):
    """The rows of a run and those that it replays, which are numbered from -1 downwards.

    Args:
        own: of the run.
        replayed: of all sources, one source after the other.
    """

    def __init__(self, own: Rows, replayed: Sequence[ListedRow]) -> None:
        self._own = own
        self._replayed = ListedRows(replayed)

    @property
    def own(self) -> Rows:
        """The rows of the run itself."""
        return self._own

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row."""
        return self._own.segments(row) if row >= 0 else self._replayed.segments(-1 - row)


def split_replayed(numbers: Numbers) -> tuple[Numbers, Numbers]:
    """A run's own rows, and those that it replays."""
    is_own = numbers >= 0
    return numbers[is_own], numbers[~is_own]
