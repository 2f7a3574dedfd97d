"""Attempts of a guarded command: whether it is started again after a crash or a stall.

An end from outside may never come again; one of its own making would. So it is started again only
while that leads anywhere: each time a step must have been reached that none had reached before.
"""

from dataclasses import dataclass

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
RUNS_AT_LEAST_S = 60.0  # what counts as progress where no steps are printed


@dataclass
class AttemptBudget:
    """The restarts that are left.

    Args:
        most: that are allowed.

    Attributes:
        number: that there were.
    """

    most: int
    number: int = 0
    _best_step: float = -1.0

    def take(self, step: float | None, ran_s: float) -> str:
        """Take one more; returns why there is none left, "" if there is.

        Args:
            step: the last one that the ended attempt reached, epochs counted in; None if it
                printed none.
            ran_s: how long it ran.
        """
        if self.number >= self.most:
            return f"there were as many restarts as --restart allows: {self.most}"
        if step is None:
            if self.number and ran_s < RUNS_AT_LEAST_S:
                return "it ended within a minute of the restart before"
        elif self.number and step <= self._best_step:
            return "no new step was reached since the restart before"
        self._best_step = max(self._best_step, step if step is not None else -1.0)
        self.number += 1
        return ""

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt."""
        return min(_FIRST_PAUSE_S * 2 ** max(self.number - 1, 0), _LONGEST_PAUSE_S)
