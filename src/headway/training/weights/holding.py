"""Holding: how a worker holds the model, all of it or its shards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from headway.model.forward import Run
from headway.model.load import to_device
from headway.runs.plan import Plan
from headway.training.weights.checkpoint import load_moments, load_weights
from headway.training.weights.initial_weights import starting_model


@dataclass(frozen=True)
class Holding:
    """How a worker holds the model: all of it, or its shards.

    Attributes:
        start: makes the model before the first step, and what runs it if not it itself.
        load_weights: reads a checkpoint's weights into it.
        load_moments: reads a checkpoint's moments, for these parameters.
    """

    start: Callable[[Plan], tuple[nn.Module, Run | None]]
    load_weights: Callable[[nn.Module, Path], None]
    load_moments: Callable[[Path, Mapping[str, nn.Parameter]], dict[str, Tensor]]


def _whole_model(plan: Plan) -> tuple[nn.Module, Run | None]:
    device = plan.machine.device
    return to_device(starting_model(plan, device=device), device), None


WHOLE = Holding(_whole_model, load_weights, lambda checkpoint, _: load_moments(checkpoint))
