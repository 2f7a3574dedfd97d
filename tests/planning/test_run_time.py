"""Costs: a speed that is only told when it is known."""

from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, settings

from headway.base.errors import Cause, Finding
from headway.planning.compute import KnownMachine
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.planning.run_time import advise_stopping
from headway.runs.measurements import speed_key
from headway.runs.plan import Plan

TEXT = in_memory(40_001)


def planned(start: InitialModel = TINY, here: KnownMachine = HERE, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXT, start, here)


def key_of(plan: Plan) -> str:
    machine = plan.machine
    how = machine.device, machine.compute_dtype, machine.threads, HERE.torch
    return speed_key(plan.model, plan.steps, plan.data, *how)


def test_time_is_unknown_until_it_was_measured() -> None:
    plan = planned()
    assert (plan.time.tokens_per_second, plan.time.seconds) == (None, None)
    assert plan.time.flops > 0
    key = key_of(plan)
    plan = planned(TINY, replace(HERE, measured={key: 1000.0, "startup|2": 2.0}.get))
    assert plan.time.tokens_per_second == 1000
    assert plan.time.seconds == 2 + plan.steps.tokens * plan.steps.num / 1000


@pytest.mark.parametrize(
    "changed",
    [{"max_length": 64}, {"batch_size": 32}, {"bf16": True}, {"threads": 3}, {"preset": "mini"}],
    ids=str,
)
def test_a_speed_is_of_one_shape_of_work(changed: dict[str, Any]) -> None:
    start = InitialModel("preset", str(changed.get("preset", "tiny")), "")
    plain, other = planned(), planned(start, **changed)
    keys = [key_of(p) for p in (plain, other)]
    assert keys[0] != keys[1]


def test_a_longer_job_has_the_same_speed() -> None:
    plain, other = planned(), planned(max_steps=999, lr=1e-5, seed=7)
    keys = [key_of(p) for p in (plain, other)]
    assert keys[0] == keys[1]


def test_a_save_that_outlasts_the_grace_period_is_warned_of_with_one_that_suffices() -> None:
    small = planned().saves
    saves = replace(small, bytes_each=84 * 10**9)
    (finding,) = advise_stopping(saves, 10.0)
    assert finding.kind == "warning"
    grace_s = float(finding.remedies[0].do.removeprefix("--grace-s "))
    assert advise_stopping(saves, grace_s) == ()
    assert advise_stopping(small, 10.0) == ()


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({"eval_steps": 1, "val_size": 40, "max_steps": 10, "batch_size": 1}, True),
        ({"val_size": 40, "max_steps": 10, "batch_size": 1}, True),
        ({"eval_steps": 5, "val_size": 4, "max_steps": 10, "batch_size": 4}, False),
        ({"eval_steps": 1, "max_steps": 10, "batch_size": 1}, False),  # nothing is held out
    ],
)
def test_an_evaluation_longer_than_training_is_told(given: dict[str, int], warned: bool) -> None:
    found = [f for f in planned(max_length=64, **given).findings if "evaluating" in f.what]
    assert bool(found) == warned


@pytest.mark.parametrize("remedy", [0, 1])
def test_what_the_warning_says_to_try_works(remedy: int) -> None:
    given = {"max_length": 64, "eval_steps": 1, "val_size": 8, "max_steps": 40, "batch_size": 1}
    (found,) = [f for f in planned(**given).findings if "evaluating" in f.what]
    flag, value = found.remedies[remedy].do.split()
    again = planned(**given | {flag.removeprefix("--").replace("-", "_"): int(value)})
    assert not any("evaluating" in f.what for f in again.findings)


def nothing_to_evaluate(**given: Any) -> list[Finding]:
    """The warnings that there is nothing to evaluate."""
    return [f for f in planned(**given).findings if f.cause is Cause.NOTHING_TO_EVALUATE]


def test_l10_evaluations_without_held_out_rows_are_told() -> None:
    (found,) = nothing_to_evaluate(eval_steps=5)
    assert found.kind == "warning"
    assert found.have == "eval_steps 5, val_size 0"
    assert nothing_to_evaluate(eval_steps=5, val_size=2) == []
    assert nothing_to_evaluate() == []


def test_l10_what_is_said_to_try_evaluates() -> None:
    (found,) = nothing_to_evaluate(eval_steps=5)
    flag, value = found.remedies[0].do.split()
    given = {"eval_steps": 5, flag.removeprefix("--").replace("-", "_"): float(value)}
    assert planned(**given).is_evaluated_after(5)
    assert nothing_to_evaluate(**given) == []
