"""Replay plan: which earlier runs' rows are mixed into a run, and how many."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReplaySource:
    """Rows that are kept of an earlier run.

    Attributes:
        run: its name.
        path: of the file with its rows.
        sha256: of that file.
        num_rows: that can be replayed.
    """

    run: str
    path: str
    sha256: str
    num_rows: int


@dataclass(frozen=True)
class ReplayPlan:
    """Rows of earlier runs that are mixed into a run.

    Attributes:
        share: of each step's own rows.
        batch_size: own rows of a step.
        seed: each seed draws other rows.
        sources: at least one, the oldest first; each gives as many rows as any other.
        num_rows: in all steps together, each row counted as often as it is replayed.
        row_sum: sum of hash64(row, 0) over these, modulo 2**64.
    """

    share: float
    batch_size: int
    seed: int
    sources: tuple[ReplaySource, ...]
    num_rows: int = 0
    row_sum: int = 0
