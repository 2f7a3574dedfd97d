"""Remaining time of a run, estimated from its first steps."""

from collections.abc import Mapping

from headway.base.pulse import Phase
from headway.runs.plan import Plan


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
