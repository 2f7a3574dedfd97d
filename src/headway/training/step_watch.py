"""Watch over finished steps: those that take longer than they used to, and losses that jump."""

from collections import deque
from collections.abc import Mapping

from headway.base.errors import Cause, Finding, Remedy
from headway.base.pulse import Phase
from headway.base.units import learning_rate
from headway.runs.plan import LearningPlan
from headway.runs.receipt import StepReport
from headway.training.pace import Pace

_WINDOW = 50  # steps that a loss is compared with
_FEWEST = 10  # before this, losses are still falling from where they began
_TIMES = 2.0  # the highest of them
_NOTICED = 0.5  # nats: a smaller difference does not matter, whatever the ratio


class StepWatch:
    """Watches a run's steps, and the time between them that no phase of its own explains.

    Args:
        learning: of the plan.
    """

    def __init__(self, learning: LearningPlan) -> None:
        self._step = Pace("a step takes")
        self._between = Pace("what lies between two steps takes")
        self._spikes = LossSpikes(learning)
        self._last_s = 0.0, 0.0  # when a step ended last, and the other phases' time by then

    def add(
        self, now_s: float, report: StepReport, phase_seconds: Mapping[str, float]
    ) -> list[Finding]:
        """Count one more step; returns what to tell.

        Args:
            now_s: when it ended.
            report: of the step.
            phase_seconds: seconds of all phases so far.
        """
        others_s = sum(s for name, s in phase_seconds.items() if name != Phase.TRAINING)
        (last_s, last_others_s), self._last_s = self._last_s, (now_s, others_s)
        between_s = now_s - last_s - report.seconds - (others_s - last_others_s)
        found = (
            self._step.add(report.seconds),
            self._between.add(between_s),
            self._spikes.add(report),
        )
        return [one for one in found if one]


class LossSpikes:
    """Notices a loss that is at least twice the highest of the 50 steps before it.

    The highest, not the median: losses of small batches differ a lot, and each of them has been
    seen before. A spike counts in the window too, so that a loss that stays high is reported once.

    Args:
        learning: of the plan.
    """

    def __init__(self, learning: LearningPlan) -> None:
        self._learning = learning
        self._recent: deque[float] = deque(maxlen=_WINDOW)

    def add(self, report: StepReport) -> Finding | None:
        """Count one more step; returns what to tell, if there is something."""
        before = tuple(self._recent)
        self._recent.append(report.loss)
        if len(before) < _FEWEST:
            return None
        highest = max(before)
        if report.loss < _TIMES * highest or report.loss - highest < _NOTICED:
            return None
        norm = f"{report.grad_norm:.3g}"
        if report.grad_norm > self._learning.max_grad_norm:
            norm += f", scaled down to {self._learning.max_grad_norm:g}"
        times = report.loss / highest if highest > 0 else float("inf")
        return Finding(
            "warning",
            f"the loss of step {report.step} is {times:.1f} times the highest before it",
            have=f"{report.loss:.4g}, and at most {highest:.4g} in the {len(before)} steps "
            f"before; gradient norm {norm}",
            need="losses that fall, or stay within what was seen",
            remedies=(
                Remedy(
                    f"--learning-rate {learning_rate(self._learning.peak / 3)}",
                    "a third, in a new run, if it does not come down again",
                ),
            ),
            cause=Cause.LOSS_SPIKE,
        )
