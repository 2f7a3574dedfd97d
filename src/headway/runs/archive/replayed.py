"""Replayed rows of a run: the kept rows of the runs that it continues, as its plan names them."""

import hashlib
from pathlib import Path

from headway.base.errors import Cause, DataRefused, Remedy
from headway.base.versioned_json import read
from headway.data.batching.listed_rows import ListedRow, cut_rows
from headway.data.batching.replay import ReplayOrder, ReplayRows
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.data.replay_plan import ReplayPlan, ReplaySource
from headway.runs.archive.kept_rows import FILE, SCHEMA, KeptRows, kept_rows_of


def replay_source(run: Path, max_length: int) -> ReplaySource | None:
    """What a run keeps to be replayed in rows of a length; None if nothing of it fits.

    Raises:
        OSError, EOFError, ValueError: its rows were not kept in time, or cannot be read.
        Refusal: a newer Headway wrote them, or they cannot be written.
    """
    num = len(cut_rows(kept_rows_of(run).to_replay, max_length))
    path = run / FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ReplaySource(run.name, str(path), digest, num) if num else None


def with_replayed(
    plan: ReplayPlan, rows: Rows, order: RowOrder, max_length: int
) -> tuple[Rows, RowOrder]:
    """The rows and the order of a run, with those that it replays.

    Raises:
        DataRefused: kept rows are not there any more, or are others.
    """
    replayed = [row for one in plan.sources for row in _load(one, max_length)]
    return ReplayRows(rows, replayed), ReplayOrder(order, plan)


def _load(source: ReplaySource, max_length: int) -> list[ListedRow]:
    path = Path(source.path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _not_there(source, str(error)) from error
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise _not_there(source, f"content {found[:12]}, planned with {source.sha256[:12]}")
    return cut_rows(read(path, KeptRows, SCHEMA).to_replay, max_length)


def _not_there(source: ReplaySource, have: str) -> DataRefused:
    return DataRefused(
        f"the rows that are kept of {source.run} changed since this run was planned",
        cause=Cause.DATA_CHANGED,
        have=have,
        need=f"{source.path} as it was",
        remedies=(Remedy("--fresh", "start over with the rows as they are now"),),
    )
