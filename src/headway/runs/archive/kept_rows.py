"""Kept rows of a run: a few that stand for its data, as tokens, after data and cache are gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from headway.base.files import write_whole
from headway.base.versioned_json import read
from headway.data.batching.listed_rows import ListedRow, ListedSegment
from headway.data.batching.rows import Rows, rows_of
from headway.data.order import Numbers, StoreOrder
from headway.data.stream.cursor import HELD_OUT
from headway.data.stream.window import Window, load_window
from headway.data.survey.store import Store
from headway.runs.order import order_of
from headway.runs.plan import Plan, load_plan

SCHEMA = "headway.kept_rows/1"
FILE = "kept_rows.json"
MOST_HELD_OUT = 64
_MOST_TRAINED = 16  # to measure, where none were held out
MOST_TO_REPLAY, _MOST_TOKENS = 1000, 1 << 17


@dataclass(frozen=True)
class KeptRows:
    """Rows of a run.

    Attributes:
        are_held_out: the rows to measure were never trained; else they are some of the first step.
        to_measure: what a model still knows.
        to_replay: rows that were trained, and are not measured where there are others.
    """

    schema: str
    are_held_out: bool
    to_measure: tuple[ListedRow, ...]
    to_replay: tuple[ListedRow, ...]


def kept_rows_of(run: Path) -> KeptRows:
    """The kept rows of a run; they are written the first time, while its tokens are there.

    Raises:
        OSError, EOFError, ValueError: they were not kept in time, or cannot be read.
        Refusal: a newer Headway wrote them, or they cannot be written.
    """
    try:
        return read(run / FILE, KeptRows, SCHEMA)
    except FileNotFoundError:
        kept = choose_rows(load_plan(run))
    write_whole(run / FILE, msgspec.json.encode(kept))
    return kept


def choose_rows(plan: Plan) -> KeptRows:
    """Rows of a run's data that stand for it.

    Raises:
        OSError, EOFError, ValueError: its tokens are not there any more.
    """
    if plan.data.stream:
        return _of_stream(load_window(Path(plan.data.stream.folder), HELD_OUT))
    rows, order = rows_of(Store(Path(plan.data.store)), plan.data.max_length), order_of(plan)
    held_out = order.held_out()
    measured = _evenly(held_out, MOST_HELD_OUT)
    if not len(held_out):
        measured = _evenly(order.rows(1)[1], _MOST_TRAINED)
    trained = _some_trained(order, plan.steps.num)
    others = np.setdiff1d(trained, measured)
    to_replay = _listed(rows, _evenly(others if len(others) else trained, MOST_TO_REPLAY))
    return KeptRows(SCHEMA, len(held_out) > 0, _listed(rows, measured), _few_tokens(to_replay))


def _of_stream(window: Window | None) -> KeptRows:
    """The held-out rows of a stream; which rows it trained is not known any more."""
    if window is None:
        raise ValueError("it was streamed, and no row of it was held out")
    numbers = _evenly(np.arange(len(window.row_ends)), MOST_HELD_OUT)
    rows = tuple(tuple(map(ListedSegment.of, window.segments(int(row)))) for row in numbers)
    return KeptRows(SCHEMA, True, rows, ())


def _some_trained(order: StoreOrder, num_steps: int) -> Numbers:
    """Rows of the first epoch's steps, as far as it was trained, from steps at even distances."""
    steps = _evenly(np.arange(1, min(num_steps, order.steps_per_epoch) + 1), MOST_TO_REPLAY)
    most = -(-2 * MOST_TO_REPLAY // len(steps))
    return np.sort(np.concatenate([order.rows(int(step))[1][:most] for step in steps]))


def _listed(rows: Rows, numbers: Numbers) -> tuple[ListedRow, ...]:
    return tuple(tuple(map(ListedSegment.of, rows.segments(int(row)))) for row in numbers)


def _few_tokens(rows: Sequence[ListedRow]) -> tuple[ListedRow, ...]:
    """So many of the rows, at even distances, that they do not hold too many tokens."""
    tokens = sum(len(segment.ids) for row in rows for segment in row)
    most = max(1, len(rows) * _MOST_TOKENS // max(tokens, _MOST_TOKENS))
    return tuple(rows[int(place)] for place in _evenly(np.arange(len(rows)), most))


def _evenly(numbers: Numbers, most: int) -> Numbers:
    """At most so many of the numbers, at even distances."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.arange(most) * len(numbers) // most]
