"""Recall: what a model still knows of earlier runs' data, by a few rows that are kept of each."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headway.base.errors import Refusal
from headway.base.files import write_whole
from headway.base.pulse import Phase, Pulse
from headway.base.versioned_json import read
from headway.data.batching.rows import Rows, Segment, rows_of
from headway.data.order import Numbers
from headway.data.stream.cursor import HELD_OUT
from headway.data.stream.window import load_window
from headway.data.survey.store import Store
from headway.runs.order import order_of
from headway.runs.plan import Plan, load_plan
from headway.training.inference.request import InferenceRequest, Recalled

SCHEMA = "headway.kept_rows/1"
FILE = "kept_rows.json"
MOST_HELD_OUT = 64  # rows of a run that are kept
_MOST_TRAINED = 16  # ... where none were held out
_MICRO_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class KeptSegment:
    """Tokens of one document, or part of one, in a row.

    Attributes:
        ids: the inputs, and the target of the last one.
        trained: which targets count; None: all of them.
    """

    ids: list[int]
    trained: list[bool] | None = None


@dataclass(frozen=True)
class KeptRows:
    """Rows of a run, which outlive its data and its tokens.

    Attributes:
        are_held_out: they were never trained.
        rows: each as its segments.
    """

    schema: str
    are_held_out: bool
    rows: tuple[tuple[KeptSegment, ...], ...]


class _Kept(Rows):
    """Kept rows, by number."""

    def __init__(self, kept: KeptRows) -> None:
        self._rows = kept.rows

    def segments(self, row: int) -> list[Segment]:
        """The tokens of a row."""
        return [
            Segment(
                np.array(one.ids),
                None if one.trained is None else np.array(one.trained, dtype=np.bool_),
            )
            for one in self._rows[row]
        ]


def recall(request: InferenceRequest, pulse: Pulse) -> tuple[Recalled, ...]:
    """The losses of a model on the kept rows of runs.

    Raises:
        Refusal: the model cannot be used.
    """
    import torch

    from headway.data.batching.batches import evaluation_micro_batches
    from headway.model.forward import Forward
    from headway.training.evaluation.evaluate import measure_loss
    from headway.training.trials.probes import try_packing
    from headway.training.weights.initial_weights import load_folder

    if request.threads:
        torch.set_num_threads(request.threads)
    kept = [_keep(Path(run)) for run in request.runs]
    if not any(isinstance(one, KeptRows) for one in kept):
        return tuple(one for one in kept if isinstance(one, Recalled))
    pulse.enter(Phase.LOADING_MODEL)
    folder = Path(request.checkpoint)
    forward = Forward(load_folder(folder, trust_remote_code=request.trust_remote_code))
    found: list[Recalled] = []
    with pulse.phase(Phase.EVALUATING, total=len(kept), unit="files"):
        for one in kept:
            if isinstance(one, KeptRows):
                numbers = np.arange(len(one.rows))
                micros = evaluation_micro_batches(_Kept(one), numbers, _MICRO_BATCH_TOKENS, "cpu")
                if not found:
                    try_packing(forward, micros[0])
                loss = measure_loss(forward, micros, Pulse())
                is_finite = math.isfinite(loss.mean) and math.isfinite(loss.error)
                problem = "" if is_finite else "its loss is not finite"
                one = Recalled(loss if is_finite else None, one.are_held_out, problem)
            found.append(one)
            pulse.progress(len(found))
    return tuple(found)


def _keep(run: Path) -> KeptRows | Recalled:
    """The kept rows of a run; they are written the first time, while its tokens are there.

    Returns:
        The rows, or why there are none.
    """
    try:
        try:
            return read(run / FILE, KeptRows, SCHEMA)
        except FileNotFoundError:
            kept = keep_rows(load_plan(run))
        write_whole(run / FILE, msgspec.json.encode(kept))
    except (OSError, EOFError, ValueError, Refusal) as error:
        return Recalled(None, problem=f"its rows were not kept: {_first_line(error)}")
    return kept


def keep_rows(plan: Plan) -> KeptRows:
    """Rows of a run's data that stand for it: held-out ones, else some of its first step.

    Raises:
        OSError, EOFError, ValueError: its tokens are not there any more.
    """
    if plan.data.stream:
        window = load_window(Path(plan.data.stream.folder), HELD_OUT)
        if window is None:
            raise ValueError("it was streamed, and no row of it was held out")
        rows, numbers = window, np.arange(len(window.row_ends))
    else:
        rows, order = rows_of(Store(Path(plan.data.store)), plan.data.max_length), order_of(plan)
        numbers = order.held_out()
        if not len(numbers):
            some = _evenly(order.rows(1)[1], _MOST_TRAINED)
            return KeptRows(SCHEMA, False, _copied(rows, some))
    return KeptRows(SCHEMA, True, _copied(rows, _evenly(numbers, MOST_HELD_OUT)))


def _copied(rows: Any, numbers: Numbers) -> tuple[tuple[KeptSegment, ...], ...]:
    def copied(segment: Segment) -> KeptSegment:
        trained = None if segment.trained is None else segment.trained.tolist()
        return KeptSegment(segment.ids.tolist(), trained)

    return tuple(tuple(map(copied, rows.segments(int(number)))) for number in numbers)


def _evenly(numbers: Numbers, most: int) -> Numbers:
    """At most so many of the numbers, at even distances."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.arange(most) * len(numbers) // most]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
