"""Recall: what a model still knows of earlier runs' data, measured on a few rows kept from each."""

import math
from pathlib import Path

import numpy as np

from headway.base.errors import Refusal
from headway.base.pulse import Phase, Pulse
from headway.data.batching.listed_rows import ListedRows
from headway.runs.archive.kept_rows import KeptRows, kept_rows_of
from headway.training.inference.request import InferenceRequest, Recalled

_MICRO_BATCH_TOKENS = 2048


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
    kept = [_kept(Path(run)) for run in request.runs]
    if not any(isinstance(one, KeptRows) for one in kept):
        return tuple(one for one in kept if isinstance(one, Recalled))
    pulse.enter(Phase.LOADING_MODEL)
    folder = Path(request.checkpoint)
    forward = Forward(load_folder(folder, trust_remote_code=request.trust_remote_code))
    found: list[Recalled] = []
    is_tried = False
    with pulse.phase(Phase.EVALUATING, total=len(kept), unit="files"):
        for one in kept:
            if isinstance(one, KeptRows):
                rows, numbers = ListedRows(one.to_measure), np.arange(len(one.to_measure))
                micros = evaluation_micro_batches(rows, numbers, _MICRO_BATCH_TOKENS, "cpu")
                if not is_tried:
                    try_packing(forward, micros[0])
                    is_tried = True
                loss = measure_loss(forward, micros, Pulse())
                is_finite = math.isfinite(loss.mean) and math.isfinite(loss.error)
                problem = "" if is_finite else "its loss is not finite"
                one = Recalled(loss if is_finite else None, one.are_held_out, problem)
            found.append(one)
            pulse.progress(len(found))
    return tuple(found)


def _kept(run: Path) -> KeptRows | Recalled:
    """The kept rows of a run, or why there are none."""
    try:
        return kept_rows_of(run)
    except (OSError, EOFError, ValueError, Refusal) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return Recalled(None, problem=f"its rows were not kept: {reason}")
