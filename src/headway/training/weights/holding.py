"""Holding: how a worker holds the model, all of it or its shards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from headway.model.forward import Run
from headway.model.load import from_folder, to_device
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


def whole(read: Callable[..., nn.Module] = from_folder) -> Holding:
    """All of the model.

    Args:
        read: reads a model folder, as `from_folder` does.
    """

    def start(plan: Plan) -> tuple[nn.Module, Run | None]:
        device = plan.machine.device
        return to_device(starting_model(plan, read, device), device), None

    return Holding(start, load_weights, lambda checkpoint, _: load_moments(checkpoint))


WHOLE = whole()
