"""Start checks: each with the facts that fail it, and facts that look alike and do not."""

from dataclasses import replace

import pytest
from tests.integrations.facts import HEALTHY, facts, resumed, sampled

from headway.base.errors import Cause, Finding, Refusal
from headway.integrations.learning_rates import PlannedRates
from headway.integrations.sample_rows import NotSampled
from headway.integrations.start_checks import not_checked, plan_line, start_problems
from headway.integrations.trainer_facts import CallbackState, OptimizerFacts, StartFacts

STATE = CallbackState("headway.callback-state/1", "r", 4, 32, "f00d")
HELD = OptimizerFacts(9, 90, 100, (), 0)


def rates(peak: float, base: float = 1e-3) -> PlannedRates:
    return PlannedRates(base, 0.0, peak, 0.0, peak / 2)


HEALTHY_CASES = {
    "healthy": HEALTHY,
    "the labels are not known": sampled(trained=None),
    "no row could be looked at": facts(sampled=NotSampled("once")),
    "text without end tokens": sampled(ends=0, ends_trained=0),
    "a third of it is padding": sampled(padding=500),
    "no embedding": facts(embedding_rows=None),
    "the scheduler does not say": facts(rates=None),
    "a warm-up of most of the run": facts(rates=rates(5e-4)),
    "an optimizer that hides its tensors": facts(optimizer=replace(HELD, missing=None)),
    "frozen tensors in the optimizer": facts(optimizer=replace(HELD, foreign=0, trainable=1)),
    "any metric may be computed": facts(wanted_metric="eval_x", known_metrics=None),
    "a metric that is there": facts(wanted_metric="eval_loss"),
    "resumed in the same data": resumed(state=STATE),
    "resumed by a run without the callback": resumed(epoch=0.5, expected_epoch=0.5),
    "resumed in data without a length": facts(
        **vars(resumed(expected_epoch=None)) | {"rows": None, "updates_per_epoch": None}
    ),
    "resumed in other data, skipping nothing": resumed(expected_epoch=0.4, skips_data=False),
}


@pytest.mark.parametrize("healthy", HEALTHY_CASES.values(), ids=HEALTHY_CASES)
def test_a_run_that_trains_is_let_alone(healthy: StartFacts) -> None:
    assert start_problems(healthy) == []


REFUSED = {
    "no update": (facts(target=0), Cause.TOO_LITTLE_DATA),
    "at the target": (resumed(target=4), Cause.ENDED_EARLY),
    "behind the target": (resumed(target=3), Cause.ENDED_EARLY),
    "nothing trainable": (facts(optimizer=replace(HELD, trainable=0)), Cause.NOTHING_TRAINABLE),
    "not held": (facts(optimizer=replace(HELD, missing=("a", "b"))), Cause.NOTHING_TRAINABLE),
    "all masked": (sampled(masked=64, first_masked=0, trained=0), Cause.NO_USABLE_RECORDS),
    "outside": (sampled(max_id=64), Cause.TOKEN_OUTSIDE_EMBEDDING),
    "no rate": (facts(rates=rates(0.0, 0.0)), Cause.INVALID_VALUE),
    "a rate lost to the schedule": (facts(rates=rates(0.0)), Cause.INVALID_VALUE),
    "other data by epochs": (resumed(epoch=0.5, expected_epoch=0.4), Cause.DATA_CHANGED),
    "other data by rows": (resumed(state=replace(STATE, rows=31)), Cause.DATA_CHANGED),
    "other data by content": (resumed(state=replace(STATE, data="beef")), Cause.DATA_CHANGED),
    "unknown metric": (facts(wanted_metric="eval_x"), Cause.INVALID_VALUE),
}


@pytest.mark.parametrize(("broken", "cause"), REFUSED.values(), ids=REFUSED)
def test_a_run_that_would_not_train_is_refused_in_four_parts(
    broken: StartFacts, cause: Cause
) -> None:
    (problem,) = start_problems(broken)
    assert isinstance(problem, Refusal)
    assert problem.cause is cause
    assert problem.have
    assert problem.need
    assert problem.remedies


WARNED = {
    "a warm-up longer than the run": (facts(rates=rates(9e-5)), Cause.CONTRADICTION),
    "some masked": (sampled(masked=3, first_masked=7), Cause.ANSWERS_CUT),
    "ends masked": (sampled(ends_trained=0), Cause.ANSWERS_CUT),
    "mostly padding": (sampled(padding=1500), Cause.SLOWER),
    "a GPU that is not used": (facts(unused_gpu="/dev/nvidia0"), Cause.NO_DEVICE),
}


@pytest.mark.parametrize(("odd", "cause"), WARNED.values(), ids=WARNED)
def test_what_is_odd_is_a_warning(odd: StartFacts, cause: Cause) -> None:
    (problem,) = start_problems(odd)
    assert isinstance(problem, Finding)
    assert problem.cause is cause
    assert problem.remedies


def test_masked_ends_are_not_told_where_everything_is_masked() -> None:
    broken = sampled(masked=64, first_masked=0, trained=0, ends_trained=0)
    assert len(start_problems(broken)) == 1


def test_a_remedy_for_data_without_a_length_has_numbers_too() -> None:
    endless = replace(resumed(target=4), updates_per_epoch=None, rows=None)
    (problem,) = start_problems(endless)
    assert isinstance(problem, Refusal)
    assert problem.remedies[0].do == "TrainingArguments(max_steps=1004)"


def test_what_could_not_be_looked_at_is_listed_with_its_reason() -> None:
    assert not_checked(HEALTHY) == ()
    hidden = facts(
        sampled=NotSampled("read once"),
        rates=None,
        optimizer=replace(HELD, missing=None),
        wanted_metric="eval_x",
        known_metrics=None,
    )
    assert [line.split(":")[0] for line in not_checked(hidden)] == [
        "labels, padding, tokens",
        "learning rates",
        "optimizer",
        "eval_x",
    ]
    assert len(not_checked(sampled(trained=None))) == 1
    (others,) = not_checked(facts(processes=3))
    assert others == "rows, tokens and losses of 2 other processes: each keeps them to itself"


def test_the_plan_is_one_line() -> None:
    assert plan_line(HEALTHY) == (
        "16 updates of 4 rows, 32 rows of data · 90% of the tokens trained · padding 9.1% · "
        "learning rate up to 1e-3 · 90% of the parameters trainable"
    )
    assert "global step 4 -> 16" in plan_line(resumed())
    assert plan_line(facts(rows=None, sampled=NotSampled(""), rates=None)) == (
        "16 updates of 4 rows · 90% of the parameters trainable"
    )
