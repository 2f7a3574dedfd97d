"""Learning rates: zero throughout, or never near what was asked for."""

from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import count, learning_rate, share
from headway.guard.judge.rules.remedies import SHOW_RATE
from headway.guard.judge.traces.case import Case
from headway.guard.judge.traces.curves import TrainingCurve

_NEAR_ZERO = 0.1  # of the rate that was asked for


def rates(case: Case) -> Iterator[Finding]:
    """What the learning rates of a run say about it."""
    for curve in case.curves:
        if curve.rates:
            if finding := _zero(case, curve) or _low(case, curve):
                yield finding
            return


def _zero(case: Case, curve: TrainingCurve) -> Finding | None:
    """A rate of zero at every step. At step 1 it is warm-up, at the last one the end of decay."""
    values = curve.rates
    if len(values) < 2 or curve.is_rounded or any(rate != 0 for _, rate in values):
        return None
    asked = case.intent.number("learning_rate", "lr")
    remedies = [SHOW_RATE]
    if asked == 0:
        remedies.insert(0, Remedy("--learning_rate 2e-5", "a usual one for a whole model"))
    return Finding(
        "refused",
        "the learning rate is 0 throughout",
        have=f"{count(len(values))} of {count(len(values))} learning rates in {curve.source} are 0",
        need="a rate above 0: no update moves a weight without it",
        remedies=tuple(remedies),
        cause=Cause.NOT_LEARNED,
    )


def _low(case: Case, curve: TrainingCurve) -> Finding | None:
    """A rate that was still rising at the end, far below the one that was asked for."""
    asked = case.intent.number("learning_rate", "lr")
    values = [rate for _, rate in curve.rates]
    highest = max(values)
    if not asked or len(values) < 3 or not 0 < highest < _NEAR_ZERO * asked:
        return None
    if highest != values[-1]:
        return None
    return Finding(
        "warning",
        f"the learning rate reached {learning_rate(highest)} of {learning_rate(asked)}",
        have=f"it was still warming up at the end, at {share(highest, asked)}, in {curve.source}",
        need="a warm-up that is a small part of the run",
        remedies=(Remedy("--warmup_ratio 0.05", "instead of warmup_steps: 5% of the run"),),
        cause=Cause.NOT_LEARNED,
    )
