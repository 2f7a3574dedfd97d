"""Losses and gradients: nan, zero, spikes, and losses that never fall."""

import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import count
from headway.guard.judge.rules.remedies import CLIP, COUNT_TRAINABLE, count_labels, lower_rate
from headway.guard.judge.traces.case import Case
from headway.guard.judge.traces.curves import TrainingCurve

# Objectives whose loss may be zero, or need not fall: policies, and two nets against each other.
_NOT_A_LIKELIHOOD = re.compile(
    r"grpo|ppo|rloo|reinforce|reward|advantage|discriminator|\bgan\b|wgan|policy", re.IGNORECASE
)
_LONG_RUN = 20  # points from which a trend is told
_SPIKE = 10.0  # times the usual loss
_BEFORE = 20  # points that say what is usual
_LEAST_OF_FIRST = 0.1  # below this share of the first loss a spike harms nothing
_ERROR_OF_MEDIANS = 1.25  # standard error of a median, next to that of a mean
_SHOWN = 3
_Values = Sequence[tuple[int | None, float]]


def losses(case: Case) -> Iterator[Finding]:
    """What the losses and gradients of a run say about it."""
    for find in (_not_finite, _gradients_not_finite, _zero_loss, _zero_gradients):
        if finding := next((f for curve in case.curves if (f := find(case, curve))), None):
            yield finding
            return
    for curve in case.curves:
        if curve.losses:
            warnings = (_some_not_finite(curve), _spike(case, curve), _plateau(case, curve))
            yield from (finding for finding in warnings if finding)
            return


def is_finite(case: Case) -> bool:
    """Whether losses and gradients were numbers to the end: weights of NaN equal each other."""
    checks = (_not_finite, _gradients_not_finite)
    return not any(check(case, curve) for curve in case.curves for check in checks)


def is_likelihood(case: Case) -> bool:
    """Whether the loss is of a kind that is never zero and falls when a model learns."""
    return not any(_NOT_A_LIKELIHOOD.search(line) for line in (*case.facts.command, *case.lines))


def _not_finite(case: Case, curve: TrainingCurve) -> Finding | None:
    """A loss that is nan or inf at the end: nothing after it was learned."""
    values = curve.losses
    bad = [number for number, (_, loss) in enumerate(values) if not math.isfinite(loss)]
    if not bad or bad[-1] != len(values) - 1:
        return None
    begin = bad[-1]
    while begin and not math.isfinite(values[begin - 1][1]):
        begin -= 1
    before = f", {values[begin - 1][1]:.4g} before" if begin else ", from the first one on"
    at = _at(values[begin][0])
    return Finding(
        "refused",
        f"the loss is {values[begin][1]} {'from ' + at if at else 'at the end'}",
        have=f"{count(len(values) - begin)} of {count(len(values))} losses in {curve.source}"
        f"{before}",
        need="finite losses: weights that a NaN was applied to are ruined",
        remedies=_remedies_of_nan(case, begin == 0),
        cause=Cause.NOT_FINITE,
    )


def _remedies_of_nan(case: Case, from_the_first: bool) -> tuple[Remedy, ...]:
    if from_the_first:
        return count_labels(case)
    range_of_bf16 = Remedy("--bf16", "instead of --fp16, which overflows at 65,504")
    lower = lower_rate(case, "from a checkpoint before it")
    return (lower, CLIP, *((range_of_bf16,) if case.intent.is_set("fp16") else ()))


def _gradients_not_finite(case: Case, curve: TrainingCurve) -> Finding | None:
    """Gradients that are nan to the end. A few at the start are fp16's search for a scale."""
    values = curve.grad_norms
    trailing = _trailing(values, lambda norm: not math.isfinite(norm))
    if not trailing or (trailing < 3 and trailing < len(values)):
        return None
    zero = [loss for _, loss in curve.losses[-trailing:]] if curve.losses else []
    beside = ", with a loss of 0.0 beside it" if zero and not any(zero) else ""
    begin = values[len(values) - trailing][0]
    return Finding(
        "refused",
        f"the gradient is {values[-1][1]} {'from ' + _at(begin) if begin else 'to the end'}",
        have=f"{count(trailing)} of {count(len(values))} gradient norms in {curve.source}{beside}",
        need="finite gradients; transformers logs a loss that is nan as 0.0 unless"
        " logging_nan_inf_filter is off",
        remedies=_remedies_of_nan(case, trailing == len(values)),
        cause=Cause.NOT_FINITE,
    )


def _zero_loss(case: Case, curve: TrainingCurve) -> Finding | None:
    """A loss of exactly zero: from the first step on, or out of nowhere."""
    values = curve.losses
    zeros = _trailing(values, lambda loss: loss == 0)
    if not zeros or not is_likelihood(case):
        return None
    before = [abs(loss) for _, loss in values[: len(values) - zeros]]
    has_faded = bool(before) and before[-1] < 0.1 * max(before)  # it was memorized
    has_gradient = any(norm > 0 for _, norm in curve.grad_norms[-zeros:] if math.isfinite(norm))
    is_small = curve.is_rounded and case.movement.moved  # "0.0000" may be anything below 5e-5
    if has_faded or has_gradient or is_small or (before and zeros < 3):
        return None
    begin = values[len(values) - zeros][0]
    told = f", {values[len(values) - zeros - 1][1]:.4g} before" if before else ""
    return Finding(
        "refused",
        f"the loss is 0.0 {'from ' + _at(begin) + ' on' if before and begin else 'throughout'}",
        have=f"{count(zeros)} of {count(len(values))} losses in {curve.source} are exactly 0{told}",
        need="trained labels: a batch whose labels are all -100 has nothing to learn",
        remedies=count_labels(case),
        cause=Cause.NOT_LEARNED,
    )


def _zero_gradients(case: Case, curve: TrainingCurve) -> Finding | None:
    """Gradients of exactly zero to the end: no weight moves."""
    values = curve.grad_norms
    zeros = _trailing(values, lambda norm: norm == 0)
    if zeros < 3 or not is_likelihood(case):
        return None
    begin = values[len(values) - zeros][0]
    return Finding(
        "refused",
        f"the gradient is 0.0 {'from ' + _at(begin) + ' on' if begin else 'throughout'}",
        have=f"{count(zeros)} of {count(len(values))} gradient norms in {curve.source} are"
        " exactly 0",
        need="trainable weights that the loss depends on",
        remedies=(COUNT_TRAINABLE,),
        cause=Cause.NO_GRADIENT,
    )


def _some_not_finite(curve: TrainingCurve) -> Finding | None:
    """Single losses that are nan or inf, with finite ones after them."""
    bad = [step for step, loss in curve.losses if not math.isfinite(loss)]
    if not bad:
        return None
    steps = ", ".join(str(step) for step in bad[:_SHOWN] if step is not None)
    return Finding(
        "warning",
        f"{count(len(bad))} of {count(len(curve.losses))} losses are not finite",
        have=f"in {curve.source}" + (f", at step {steps}" if steps else ""),
        need="finite losses; whether these updates were skipped is not known",
        remedies=(CLIP,),
        cause=Cause.NOT_FINITE,
    )


def _spike(case: Case, curve: TrainingCurve) -> Finding | None:
    """A loss that is many times the usual one."""
    values = [(step, loss) for step, loss in curve.losses if math.isfinite(loss)]
    spikes: list[tuple[int | None, float, float]] = []
    for at in range(_BEFORE // 2, len(values)):
        usual = statistics.median(loss for _, loss in values[max(0, at - _BEFORE) : at])
        step, loss = values[at]
        if usual > 0 and loss > _SPIKE * usual and loss > _LEAST_OF_FIRST * values[0][1]:
            spikes.append((step, loss, usual))
    if not spikes:
        return None
    step, loss, usual = max(spikes, key=lambda one: one[1] / one[2])
    return Finding(
        "warning",
        f"the loss jumped to {loss:.4g}" + (f" at {_at(step)}" if step is not None else ""),
        have=f"{loss / usual:.0f} times the {usual:.4g} before it"
        + (f"; {count(len(spikes))} such losses in all" if len(spikes) > 1 else "")
        + f", in {curve.source}",
        need="losses within a few times the usual one",
        remedies=(CLIP, lower_rate(case, "smaller updates")),
        cause=Cause.NOT_LEARNED,
    )


def _plateau(case: Case, curve: TrainingCurve) -> Finding | None:
    """A loss that did not fall from the beginning to the end, by more than it varies."""
    values = [loss for _, loss in curve.losses if math.isfinite(loss)]
    # A run resumed from a checkpoint may already have learned what it can.
    if len(values) < _LONG_RUN or case.resumed_from or not is_likelihood(case):
        return None
    fifth = len(values) // 5
    first, last = statistics.median(values[:fifth]), statistics.median(values[-fifth:])
    noise = statistics.median(abs(b - a) for a, b in itertools.pairwise(values))
    error = _ERROR_OF_MEDIANS * noise * math.sqrt(2 / fifth)
    fell_at_once = last < 0.5 * values[0]
    if fell_at_once or first - last > max(error, 0.001 * abs(first)):
        return None
    return Finding(
        "warning",
        f"the loss did not fall: {first:.4g} -> {last:.4g}",
        have=f"medians of the first and last {count(fifth)} of {count(len(values))} losses in"
        f" {curve.source}",
        need="a loss that falls while a model learns",
        remedies=(
            COUNT_TRAINABLE,
            lower_rate(case, "if it was too high; three times as high, if it was too low"),
        ),
        cause=Cause.NOT_LEARNED,
    )


def _trailing(values: _Values, matches: Callable[[float], bool]) -> int:
    """How many values at the end match."""
    number = 0
    for _, value in reversed(values):
        if not matches(value):
            break
        number += 1
    return number


def _at(step: int | None) -> str:
    return f"step {count(step)}" if step is not None else ""
