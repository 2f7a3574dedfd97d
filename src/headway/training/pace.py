"""Pace of a run: its remaining time, and steps that get slower."""

import math
import statistics
from collections import deque
from collections.abc import Mapping

from headway.base.errors import Cause, Finding, Remedy
from headway.base.pulse import Phase
from headway.base.units import short_time
from headway.runs.plan import Plan

_WARMUP = 3  # the first steps allocate memory and fill caches
_WINDOW = 20  # steps in a median
_NOTICED_S = 0.02  # a smaller difference does not matter, whatever the ratio


class Pace:
    """Notices when something that is done in each step takes twice as long as it used to.

    Medians of 20 steps are compared with the fastest one so far. After a notice, one must be twice
    the slowest noticed: on a machine that others use, steps get slow and fast again all the time.

    Args:
        what: takes the time, as the start of a sentence: "a step takes".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._num = 0
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._fastest_s = math.inf
        self._slowest_noticed_s = 0.0

    def add(self, took_s: float) -> Finding | None:
        """Count one more step; returns what to tell, if there is something."""
        self._num += 1
        if self._num <= _WARMUP:
            return None
        self._recent.append(took_s)
        if (self._num - _WARMUP) % _WINDOW:
            return None
        now_s = statistics.median(self._recent)
        fastest_s = self._fastest_s = min(self._fastest_s, now_s)
        is_slow = now_s >= 2 * max(fastest_s, self._slowest_noticed_s)
        if not is_slow or now_s - fastest_s < _NOTICED_S:
            return None
        self._slowest_noticed_s = now_s
        times = f"{short_time(now_s)}, and {short_time(fastest_s)} before"
        return Finding(
            "warning",
            f"{self._what} {now_s / fastest_s:.1f} times as long as before",
            have=f"{times} (medians of {_WINDOW} steps)",
            need="a machine as fast as at the start",
            remedies=(Remedy("headway doctor", "shows other work, steal and throttling"),),
            cause=Cause.SLOWER,
        )


def estimate_remaining_s(
    plan: Plan, num_steps: int, step_s: float, phase_seconds: Mapping[str, float]
) -> float:
    """Estimated seconds from now to the receipt.

    Args:
        plan: of the run.
        num_steps: still to be taken.
        step_s: seconds of one of them.
        phase_seconds: seconds of the phases so far; the end loads, probes and evaluates again.
    """
    evaluating_s = phase_seconds.get(Phase.EVALUATING, 0.0)
    every = plan.evaluation.eval_steps
    num_evaluations = 1 + (num_steps // every if every else 0)
    num_saves = 1 + num_steps // plan.saves.every_steps
    return (
        num_steps * step_s
        + phase_seconds.get(Phase.LOADING_MODEL, 0.0)
        + phase_seconds.get(Phase.PROBING, 0.0)
        + num_evaluations * evaluating_s
        + num_saves * plan.saves.seconds_each
    )
