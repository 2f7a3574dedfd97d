"""Learning rates that a scheduler will give, read without taking a step with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

MOST = 2000  # steps that are computed


@dataclass(frozen=True)
class PlannedRates:
    """The learning rates of the planned updates, the highest over all groups.

    Attributes:
        base: what the scheduler multiplies.
        first, peak, last, mean: of the planned updates.
    """

    base: float
    first: float
    peak: float
    last: float
    mean: float


def planned_rates(scheduler: Any, num: int) -> PlannedRates | None:
    """The rates of the next `num` updates; None if the scheduler does not say.

    Only `LambdaLR` says: each of transformers' schedules that depends on the step alone is one.

    Args:
        scheduler: of torch, or one that accelerate wrapped.
        num: planned updates, at least 1.
    """
    inner = getattr(scheduler, "scheduler", scheduler)
    functions = cast("Sequence[Callable[[int], float] | None]", getattr(inner, "lr_lambdas", ()))
    bases = cast("Sequence[float]", getattr(inner, "base_lrs", ()))
    begin = getattr(inner, "last_epoch", None)
    if not functions or len(functions) != len(bases) or not isinstance(begin, int):
        return None
    apart = max(num // MOST, 1)
    steps = [*range(begin, begin + num, apart), begin + num - 1]
    try:
        rates = [
            max(
                float(base) * (float(function(step)) if function else 1.0)
                for base, function in zip(bases, functions, strict=True)
            )
            for step in steps
        ]
    except Exception:
        # A function of somebody else; what it gives will be seen step by step.
        return None
    within = rates[:-1] or rates
    mean = sum(within) / len(within)
    return PlannedRates(max(map(float, bases)), rates[0], max(rates), rates[-1], mean)
