"""Costs: a speed that is only told when it is known."""

from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, settings

from headway.planning.decide import Start, decide
from headway.planning.run_time import Here, speed_key
from headway.runs.plan import Plan

TEXT = in_memory(40_001)


def planned(start: Start = TINY, here: Here = HERE, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXT, start, here)


def test_time_is_unknown_until_it_was_measured() -> None:
    plan = planned()
    assert (plan.time.tokens_per_second, plan.time.seconds) == (None, None)
    assert plan.time.flops > 0
    key = speed_key(plan.model, plan.steps, plan.data, plan.machine, HERE.torch)
    plan = planned(TINY, replace(HERE, measured={key: 1000.0, "startup|2": 2.0}.get))
    assert plan.time.tokens_per_second == 1000
    assert plan.time.seconds == 2 + plan.steps.tokens * plan.steps.num / 1000


@pytest.mark.parametrize(
    "changed",
    [{"max_length": 64}, {"batch_size": 32}, {"bf16": True}, {"threads": 3}, {"preset": "mini"}],
    ids=str,
)
def test_a_speed_is_of_one_shape_of_work(changed: dict[str, Any]) -> None:
    start = Start("preset", str(changed.get("preset", "tiny")), "")
    plain, other = planned(), planned(start, **changed)
    keys = [speed_key(p.model, p.steps, p.data, p.machine, "2") for p in (plain, other)]
    assert keys[0] != keys[1]


def test_a_longer_job_has_the_same_speed() -> None:
    plain, other = planned(), planned(max_steps=999, lr=1e-5, seed=7)
    keys = [speed_key(p.model, p.steps, p.data, p.machine, "2") for p in (plain, other)]
    assert keys[0] == keys[1]
