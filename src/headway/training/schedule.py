"""The learning rate at a step."""

import math

from headway.runs.plan import LearningPlan


def learning_rate(plan: LearningPlan, step: int, num_steps: int) -> float:
    """The rate of one step, a pure function: nothing to save, nothing to restore.

    Greater than 0 on every planned step. Warm-up is peak * step / (warmup + 1), so that step 1
    moves weights; the decay reaches its floor, 0, after the last step, not on it.

    Args:
        plan: peak, warm-up and the way down.
        step: of this job, 1 to `num_steps`.
        num_steps: of this job.
    """
    if step <= plan.warmup_steps:
        return plan.peak * step / (plan.warmup_steps + 1)
    past = (step - plan.warmup_steps - 1) / (num_steps - plan.warmup_steps)
    match plan.schedule:
        case "constant":
            return plan.peak
        case "linear":
            return plan.peak * (1 - past)
        case "cosine":
            return plan.peak * math.cos(math.pi / 2 * past) ** 2  # (1 + cos(pi past)) / 2
