"""Costs: memory part by part, remedies that fit, and a speed that is only told when it is known."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, llama, settings

from headway.base.errors import MachineError
from headway.model.sizes import shape_of
from headway.trainer.costs import Here, speed_key
from headway.trainer.decide import Start, decide
from headway.trainer.plan import Plan

CONFIG = llama(hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
FOLDER = Start("folder", "base", "/base", CONFIG, parameters=shape_of(CONFIG).parameters)
TEXT = in_memory(40_001)


def planned(start: Start = TINY, here: Here = HERE, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXT, start, here)


def with_free(num_bytes: int) -> Here:
    return replace(HERE, machine=replace(HERE.machine, memory_free_bytes=num_bytes))


def test_memory_is_the_sum_of_its_parts() -> None:
    plan = planned(FOLDER, batch_size=8, max_length=256)
    memory, parameters = plan.memory, plan.model.parameters
    assert memory.weights == 4 * parameters
    assert memory.optimizer == 8 * parameters
    assert plan.steps.leaves == 8  # tokens / 256
    assert memory.gradients == 4 * parameters * 4  # a leaf's, and a sum per level of the tree
    assert memory.process == HERE.process_bytes
    parts = (memory.process, memory.weights, memory.gradients, memory.optimizer)
    assert memory.snapshot == 12 * parameters  # weights and moments, copied for a save
    assert memory.peak == sum(parts) + memory.activations + memory.snapshot


def test_adapters_need_no_moments_for_frozen_weights() -> None:
    full, adapters = planned(FOLDER).memory, planned(FOLDER, lora=True).memory
    assert adapters.optimizer < full.optimizer / 5
    assert adapters.gradients < full.gradients / 5
    assert adapters.weights >= full.weights


@pytest.mark.parametrize(
    "less", [{"micro_batch_tokens": 256}, {"gradient_checkpointing": True}], ids=str
)
def test_smaller_pieces_take_less_memory(less: dict[str, Any]) -> None:
    given = {"batch_size": 8, "max_length": 128, "micro_batch_tokens": 1024}
    plain, small = planned(FOLDER, **given), planned(FOLDER, **given | less)
    assert small.memory.activations < plain.memory.activations
    assert small.identity == plain.identity


@pytest.mark.parametrize("missing", [0.3, 0.5, 0.9, 1.2, 2.0])
@pytest.mark.parametrize(
    ("start", "given"),
    [
        (FOLDER, {"batch_size": 8, "max_length": 128, "micro_batch_tokens": 1024}),
        (FOLDER, {"batch_size": 8, "max_length": 256, "micro_batch_tokens": 256}),
        (FOLDER, {"batch_size": 8, "max_length": 128, "lora": True}),
        (FOLDER, {"batch_size": 8, "gradient_checkpointing": True}),
        (Start("preset", "mini", ""), {"batch_size": 8}),
    ],
    ids=range(5),
)
def test_every_remedy_for_too_little_memory_fits(
    start: Start, given: dict[str, Any], missing: float
) -> None:
    """Less memory than needed, by a share of the activations; 1.2 and more: by weights too."""
    memory = planned(start, **given).memory
    here = with_free(memory.peak - round(missing * memory.activations))
    with pytest.raises(MachineError, match="this run does not fit in memory") as refused:
        planned(start, here, **given)
    assert refused.value.remedies
    for remedy in refused.value.remedies:
        if remedy.do.startswith("--"):
            typed = re.findall(r"--([\w-]+) ?([^-\s]*)", remedy.do)
            again = {name.replace("-", "_"): value or True for name, value in typed}
            assert planned(start, here, **given | again).steps.num >= 1, remedy


def test_what_no_setting_makes_fit_is_told_so() -> None:
    with pytest.raises(MachineError) as refused:
        planned(FOLDER, with_free(10**6))
    assert [r.do for r in refused.value.remedies] == ["a smaller model, or more memory"]


def test_remedies_that_only_fit_together_are_given_together() -> None:
    given: dict[str, Any] = {"batch_size": 8, "max_length": 64, "micro_batch_tokens": 512}
    every = planned(FOLDER, **given | {"micro_batch_tokens": 128, "lora": True})
    with pytest.raises(MachineError) as refused:
        planned(FOLDER, with_free(every.memory.peak), **given)
    assert [r.do for r in refused.value.remedies] == [
        "--micro-batch-tokens 128 --gradient-checkpointing --lora"
    ]


def test_an_accelerators_memory_is_not_judged_by_the_hosts() -> None:
    planned(FOLDER, replace(with_free(1000), device="cuda"))


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
