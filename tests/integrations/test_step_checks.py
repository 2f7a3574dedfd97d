"""Step checks: what stops a run in a step, and what does not."""

import math
from typing import Any

import pytest

from headway.base.errors import Cause, Finding, Refusal
from headway.integrations.step_checks import (
    StepSeen,
    gradient_finding,
    step_problem,
    weights_problem,
)
from headway.runs.watched.watched_receipt import SeenTensors


def seen(update: int = 5, **given: Any) -> StepSeen:
    defaults: dict[str, Any] = {"loss": 2.0, "grad_norm": 1.0, "rate": 1e-3, "trained": 9}
    return StepSeen(update, trainable=4, **defaults | given)


HEALTHY = {
    "healthy": seen(),
    "nothing is known": StepSeen(1),
    "an overflow of fp16": seen(grad_norm=math.inf, may_overflow=True),
    "adapters: half of the gradients are zero": seen(1, gradients=(4, 2)),
    "one masked batch": seen(5, trained=0, loss=0.0),
    "one masked batch, whose mean loss is 0/0": seen(5, trained=0, loss=math.nan, grad_norm=0.0),
    "rare masked batches": seen(1000, trained=0, masked_before=9),
    "one gradient of zero": seen(grad_norm=0.0, zero_before=1),
    "no gradient yet while fp16 looks for its scale": seen(1, gradients=(4, 0), may_overflow=True),
}


@pytest.mark.parametrize("healthy", HEALTHY.values(), ids=HEALTHY)
def test_a_step_that_trains_is_let_alone(healthy: StepSeen) -> None:
    assert step_problem(healthy) is None


BROKEN = {
    "loss is nan": (seen(loss=math.nan), Cause.NOT_FINITE),
    "loss is nan under fp16": (seen(loss=math.nan, may_overflow=True), Cause.NOT_FINITE),
    "gradient is infinite": (seen(grad_norm=math.inf), Cause.NOT_FINITE),
    "the first batch is masked": (seen(1, trained=0), Cause.NO_USABLE_RECORDS),
    "the first one, whose loss is 0/0": (
        seen(1, trained=0, loss=math.nan, grad_norm=0.0),
        Cause.NO_USABLE_RECORDS,
    ),
    "a masked one spoils the gradient": (
        seen(5, trained=0, loss=math.nan, grad_norm=math.nan),
        Cause.NOT_FINITE,
    ),
    "many are": (seen(5, trained=0, masked_before=2), Cause.NO_USABLE_RECORDS),
    "no gradient at all": (seen(1, gradients=(0, 0)), Cause.NO_GRADIENT),
    "all of them zero": (seen(1, gradients=(4, 0)), Cause.NO_GRADIENT),
    "zero three times in a row": (seen(grad_norm=0.0, zero_before=2), Cause.NO_GRADIENT),
}


@pytest.mark.parametrize(("broken", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_step_that_does_not_train_is_refused(broken: StepSeen, cause: Cause) -> None:
    problem = step_problem(broken)
    assert isinstance(problem, Refusal)
    assert problem.cause is cause
    assert problem.have
    assert problem.need
    assert problem.remedies


@pytest.mark.parametrize(
    ("changed", "update", "kind"),
    [
        (0, 1, Refusal),
        (0, 10, Refusal),
        (1, 1, type(None)),
        (1, 10, Finding),
        (2, 10, type(None)),
        (4, 10, type(None)),
    ],
)
def test_weights_must_move_and_most_of_them_after_ten(
    changed: int, update: int, kind: type
) -> None:
    tensors = SeenTensors(4, changed, 4, tuple("abcd"[changed:]))
    assert isinstance(weights_problem(tensors, update), kind)


def test_nothing_trainable_has_nothing_to_move() -> None:
    assert weights_problem(SeenTensors(0, 0, 0), 1) is None


def test_tensors_without_a_gradient_are_named() -> None:
    assert gradient_finding([], 4, 4) is None
    assert gradient_finding(["a"], 1, 4) is None  # said in other words already
    finding = gradient_finding(["a", "b", "c", "d"], 9, 4)
    assert finding is not None
    assert finding.have == "a, b, c and others"
