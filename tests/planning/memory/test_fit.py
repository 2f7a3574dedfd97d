"""What a plan does where memory is small, and remedies that fit."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE
from tests.planning.memory.plans import CONFIG, FOLDER, PLAIN, planned, with_free

from headway.base.errors import MachineError
from headway.planning.memory.estimate import ESTIMATE_ERROR
from headway.planning.memory.fit import MIN_MICRO_BATCH_TOKENS
from headway.planning.model_source import InitialModel
from headway.runs.plan import Plan


@pytest.mark.parametrize("missing", [0.3, 0.5, 0.9, 1.2, 2.0])
@pytest.mark.parametrize(
    ("start", "given"),
    [
        (FOLDER, {"batch_size": 8, "max_length": 128, "micro_batch_tokens": 1024}),
        (FOLDER, {"batch_size": 8, "max_length": 256, "micro_batch_tokens": 256}),
        (FOLDER, {"batch_size": 8, "max_length": 128, "micro_batch_tokens": 512, "lora": True}),
        (FOLDER, {"batch_size": 8, "gradient_checkpointing": True, "micro_batch_tokens": 512}),
        (InitialModel("preset", "mini", ""), {"batch_size": 8, "micro_batch_tokens": 2048}),
    ],
    ids=range(5),
)
def test_every_remedy_for_too_little_memory_fits(
    start: InitialModel, given: dict[str, Any], missing: float
) -> None:
    """Less memory than needed, by a share of the activations; 1.2 and more: by weights too."""
    given = PLAIN | given
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
    given: dict[str, Any] = {"batch_size": 8, "max_length": 64, "micro_batch_tokens": 512, **PLAIN}
    least = {"micro_batch_tokens": 128, "gradient_checkpointing": True, "lora": True}
    every = planned(FOLDER, **given | least)
    with pytest.raises(MachineError) as refused:
        planned(FOLDER, with_free(every.memory.peak), **given)
    assert [r.do for r in refused.value.remedies] == [
        "--micro-batch-tokens 128 --gradient-checkpointing --lora"
    ]


@pytest.mark.parametrize("bf16", [False, True])
def test_a_plan_takes_smaller_pieces_then_runs_layers_twice(bf16: bool) -> None:
    given = {"batch_size": 16, "max_length": 256, "bf16": bf16}
    config = CONFIG | {
        "hidden_size": 128,
        "intermediate_size": 512,
    }  # more activations than weights
    start = replace(FOLDER, config=config, parameters=0)
    plenty = planned(start, **given)
    assert plenty.steps.micro_batch_tokens == 2048
    assert not plenty.machine.gradient_checkpointing
    seen: list[tuple[bool, int]] = []
    for tenths in range(30):
        here = with_free(plenty.memory.peak - tenths * plenty.memory.activations // 25)
        try:
            plan = planned(start, here, **given)
        except MachineError:
            break
        assert plan.memory.peak * (1 if tenths else 0) <= here.machine.memory_free_bytes
        assert plan.identity == plenty.identity
        micro, again = plan.steps.micro_batch_tokens, plan.machine.gradient_checkpointing
        seen.append((again, -micro))
        if again:
            reason = plan.choice("gradient_checkpointing").reason
            assert reason.startswith("recomputes layers to fit in the")
        if micro < 2048:
            assert plan.choice("micro_batch_tokens").reason.startswith("fits in the")
    assert {again for again, _ in seen} == {False, True}
    assert min(-micro for _, micro in seen) >= MIN_MICRO_BATCH_TOKENS
    assert len(seen) > 10


def test_there_is_room_for_an_estimate_that_is_wrong() -> None:
    given = {"batch_size": 16, "max_length": 256}
    plenty = planned(FOLDER, **given)
    just = with_free(round(plenty.memory.peak * (1 + ESTIMATE_ERROR)) + 1_000_000)
    assert planned(FOLDER, just, **given).steps.micro_batch_tokens == 2048
    less = with_free(round(plenty.memory.peak * (1 + ESTIMATE_ERROR)) - 1_000_000)
    smaller = planned(FOLDER, less, **given)
    assert smaller.steps.micro_batch_tokens < 2048 or smaller.machine.gradient_checkpointing


@pytest.mark.parametrize(
    "asked", [{"micro_batch_tokens": 2048}, {"gradient_checkpointing": False}], ids=str
)
def test_what_was_asked_for_stays(asked: dict[str, Any]) -> None:
    plenty = planned(FOLDER, batch_size=16, max_length=256, **asked)
    here = with_free(plenty.memory.peak - plenty.memory.activations // 4)
    plan = planned(FOLDER, here, batch_size=16, max_length=256, **asked)
    assert plan.memory.peak < plenty.memory.peak
    for name, value in asked.items():
        assert plan.choice(name).value == value


def test_an_accelerators_memory_is_not_judged_by_the_hosts() -> None:
    planned(FOLDER, replace(with_free(10**9), device="cuda"))


def test_a_gpus_saves_need_room_on_the_host() -> None:
    def on_gpu(free: int, **given: Any) -> Plan:
        here = replace(with_free(free), device="cuda", device_free_bytes=10**11)
        return planned(FOLDER, here, **given)

    memory = on_gpu(10**9).memory
    assert memory.host == HERE.process_bytes + 12 * on_gpu(10**9).model.parameters
    assert on_gpu(memory.host).memory == replace(memory, free=10**11)
    with pytest.raises(MachineError) as refused:
        on_gpu(memory.host - 1)
    assert [remedy.do for remedy in refused.value.remedies] == ["--lora"]
    on_gpu(memory.host - 1, lora=True)
    with pytest.raises(MachineError) as refused:
        on_gpu(1000)
    assert refused.value.remedies[0].do == "a smaller model, or more memory"
    on_gpu(0)  # unknown
    assert planned(FOLDER).memory.host == 0


def test_on_a_gpu_its_own_memory_decides() -> None:
    def on_gpu(num_bytes: int, **given: Any) -> Plan:
        here = replace(with_free(10**9), device="cuda", device_free_bytes=num_bytes)
        return planned(FOLDER, here, **{"batch_size": 16, "max_length": 256} | given)

    plenty = on_gpu(10**10)
    assert (plenty.memory.free, plenty.memory.snapshot) == (10**10, 0)  # a copy is on the host
    assert not plenty.machine.gradient_checkpointing
    choice = plenty.choice("gradient_checkpointing")
    assert choice.reason == "there is enough memory without it"
    tight = plenty.memory.peak - round(0.99 * plenty.memory.activations)
    saving = on_gpu(round(tight * (1 + ESTIMATE_ERROR)), micro_batch_tokens=4096)
    assert saving.machine.gradient_checkpointing
    reason = saving.choice("gradient_checkpointing").reason
    assert reason.startswith("recomputes layers to fit in the")
    assert reason.endswith("33% more work")
    with pytest.raises(MachineError, match="this run does not fit in memory"):
        on_gpu(plenty.memory.weights)


def test_a_model_without_room_for_copies_is_cut_into_shards() -> None:
    big = replace(FOLDER, config=CONFIG | {"num_hidden_layers": 20}, parameters=30_000_000)
    given = {"nproc": 4, "batch_size": 4, "max_length": 64, "bf16": False}
    copies = planned(big, **given, reduction="tree").memory.peak
    shards = planned(big, **given, reduction="hsdp").memory.peak
    assert shards < 0.6 * copies
    between = with_free((copies + shards) // 2)
    plan = planned(big, between, **given)
    assert plan.machine.reduction == "hsdp"
    assert not plan.machine.compiled
    assert plan.memory.peak <= between.machine.memory_free_bytes
    with pytest.raises(MachineError):
        planned(big, between, **given, reduction="tree")
    assert planned(big, with_free(2 * copies), **given).machine.reduction == "tree"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fewer_leaves_where_the_sums_of_more_do_not_fit(device: str) -> None:
    """A GPU gives up leaves first, since they cost no time; a processor at last."""
    given = {"batch_size": 64, "max_length": 256, "bf16": True}
    host = with_free(10**11)
    roomy = replace(host, device=device, device_free_bytes=10**11)
    plenty = planned(FOLDER, roomy, **given)
    assert plenty.steps.leaves == 8
    assert not any("leaves" in one.what for one in plenty.findings)

    def tight(num_bytes: int) -> Plan:
        here = with_free(num_bytes) if device == "cpu" else host
        return planned(FOLDER, replace(here, device=device, device_free_bytes=num_bytes), **given)

    a_sum = 4 * plenty.model.trainable
    least = round((1 + ESTIMATE_ERROR) * plenty.memory.peak) + 10
    seen: list[tuple[int, int, bool]] = []
    for tenths in range(60):
        try:
            plan = tight(least - tenths * a_sum // 5)
        except MachineError:
            break
        steps, recomputes = plan.steps, plan.machine.gradient_checkpointing
        seen.append((steps.leaves, steps.micro_batch_tokens, recomputes))
        assert plan.identity == plenty.identity
        assert plan.memory.peak <= plan.memory.free
        said = [one for one in plan.findings if "leaves" in one.have]
        assert len(said) == (steps.leaves < 8)
        if said:
            parts = "1 leaf" if steps.leaves == 1 else f"{steps.leaves} leaves"
            assert said[0].what.startswith(f"a step's gradient is summed from {parts} instead of 8")
    assert {leaves for leaves, _, _ in seen} == {8, 4, 2, 1}
    with_fewer = [one for one in seen if one[0] < 8]
    usual = plenty.steps.micro_batch_tokens
    if device == "cuda":
        assert with_fewer[0] == (4, usual, False)
        assert not [one for one in seen if one[0] == 8 and one[1] < usual]
    else:
        assert (8, 256, False) in seen
        assert with_fewer[0][0] == 4


def test_a_worker_keeps_a_leaf() -> None:
    given = {"batch_size": 64, "max_length": 256, "nproc": 4, "reduction": "tree"}
    plenty = planned(FOLDER, with_free(10**11), **given)
    leaves = set[int]()
    for tenths in range(20, 100, 2):
        try:
            plan = planned(FOLDER, with_free(plenty.memory.peak * tenths // 100), **given)
        except MachineError:
            continue
        leaves.add(plan.steps.leaves)
    assert leaves == {8, 4}
