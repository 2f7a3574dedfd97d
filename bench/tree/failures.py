"""Time lost to failures: what is saved, what is done again, and how often to save."""

import math
from dataclasses import dataclass

import numpy as np

# Unexpected interruptions in 54 days on 16,384 GPUs (The Llama 3 Herd of Models, 2024).
INTERRUPTIONS, DAYS, GPUS = 466, 54, 16_384
WORKER_S = DAYS * 86_400 * GPUS / INTERRUPTIONS  # between two failures of one worker
_TRIED = [2 ** (power / 4) for power in range(-12, 13)]  # times the formula's interval


def between_failures_s(workers: int) -> float:
    """Mean time between two failures of any of them."""
    return WORKER_S / workers


def best_interval_s(stall_s: float, between_s: float) -> float:
    """Time to train between two saves: the first-order optimum (Young, 1974)."""
    return math.sqrt(2 * stall_s * between_s)


@dataclass(frozen=True)
class Losses:
    """Shares of all time.

    Attributes:
        saving: training stood still for a save.
        again: done, lost and done again.
        restarting: from a failure until training goes on.
    """

    saving: float
    again: float
    restarting: float

    @property
    def total(self) -> float:
        """All that was lost."""
        return self.saving + self.again + self.restarting


def simulate(
    interval_s: float,
    stall_s: float,
    restart_s: float,
    between_s: float,
    *,
    step_s: float = 0.0,
    kept: float = 0.0,
    failures: int = 200_000,
    seed: int = 0,
) -> Losses:
    """Train, save, fail, restart, over many failures at times that are drawn.

    Args:
        interval_s: trained between two saves; whole steps of it.
        stall_s: that training stands still for a save.
        restart_s: from a failure until training resumes; another failure restarts this time.
        between_s: mean time between two failures.
        step_s: of a step; 0: as short as one likes.
        kept: share of failures after which the last finished step is saved before the restart.
        failures: how many.
        seed: of the draws.
    """
    draw = np.random.default_rng(seed)
    interval_s = max(1, round(interval_s / step_s)) * step_s if step_s else interval_s
    lives_s = draw.exponential(between_s, failures)
    cycles = np.floor(lives_s / (interval_s + stall_s))
    since_s = np.minimum(lives_s - cycles * (interval_s + stall_s), interval_s)
    whole_s = np.floor(since_s / step_s) * step_s if step_s else since_s
    is_kept = draw.random(failures) < kept
    again_s = float(np.where(is_kept, since_s - whole_s, since_s).sum())
    # What is saved after a failure takes a save's time of the restart.
    restarting_s = _restarts_s(restart_s, between_s, failures, draw) + stall_s * int(is_kept.sum())
    total_s = float(lives_s.sum()) + restarting_s
    trained_s = float((cycles * interval_s + since_s).sum())
    saving_s = float(lives_s.sum()) - trained_s
    return Losses(saving_s / total_s, again_s / total_s, restarting_s / total_s)


def _restarts_s(
    restart_s: float, between_s: float, failures: int, draw: np.random.Generator
) -> float:
    """Time of all restarts, those that fail included."""
    total_s, left = 0.0, failures
    while left:
        lives_s = draw.exponential(between_s, left)
        failed = lives_s < restart_s
        total_s += float(np.minimum(lives_s, restart_s).sum())
        left = int(failed.sum())
    return total_s


def best_simulated_s(stall_s: float, restart_s: float, between_s: float) -> float:
    """The interval that loses least, of some around the formula's."""
    formula_s = best_interval_s(stall_s, between_s)
    tried = [formula_s * times for times in _TRIED]
    return min(tried, key=lambda one: simulate(one, stall_s, restart_s, between_s).total)
