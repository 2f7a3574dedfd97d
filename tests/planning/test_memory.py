"""Memory: part by part, what a plan does where there is little, and remedies that fit."""

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, llama, settings

from headway.base.errors import MachineError
from headway.model.sizes import NF4_BYTES, shape_of
from headway.planning.compute import KnownMachine
from headway.planning.decide import decide
from headway.planning.memory import ESTIMATE_ERROR, MIN_MICRO_BATCH_TOKENS
from headway.planning.model_source import InitialModel
from headway.runs.plan import Plan

CONFIG = llama(hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
FOLDER = InitialModel("folder", "base", "/base", CONFIG, parameters=shape_of(CONFIG).parameters)
TEXT = in_memory(40_001)
PLAIN = {"bf16": False, "gradient_checkpointing": False}


def planned(start: InitialModel = TINY, here: KnownMachine = HERE, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXT, start, here)


def with_free(num_bytes: int) -> KnownMachine:
    return replace(HERE, machine=replace(HERE.machine, memory_free_bytes=num_bytes))


def test_memory_is_the_sum_of_its_parts() -> None:
    plan = planned(FOLDER, batch_size=16, max_length=512, micro_batch_tokens=1024, **PLAIN)
    memory, parameters = plan.memory, plan.model.parameters
    assert memory.weights == 4 * parameters
    assert memory.optimizer == 8 * parameters
    assert plan.steps.leaves == 2  # tokens / 2,048
    assert memory.gradients == 4 * parameters * 2  # a leaf's, and a sum per level of the tree
    assert memory.snapshot == 12 * parameters  # weights and moments, copied for a save
    parts = (memory.process, memory.weights, memory.gradients, memory.optimizer)
    assert memory.peak == sum(parts) + memory.activations + memory.snapshot


def test_bf16_takes_a_copy_of_the_weights_and_half_the_activations() -> None:
    given = {"batch_size": 4, "max_length": 512, "gradient_checkpointing": False}
    fp32, bf16 = (planned(FOLDER, bf16=yes, **given) for yes in (False, True))
    assert (
        bf16.memory.weights == fp32.memory.weights + 2 * bf16.model.parameters
    )  # the head is tied
    assert bf16.memory.activations < 0.7 * fp32.memory.activations
    assert bf16.memory.optimizer == fp32.memory.optimizer


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
    plenty = planned(FOLDER, **given)
    assert plenty.steps.micro_batch_tokens == 2048
    assert not plenty.machine.gradient_checkpointing
    seen: list[tuple[bool, int]] = []
    for tenths in range(30):
        here = with_free(plenty.memory.peak - tenths * plenty.memory.activations // 25)
        try:
            plan = planned(FOLDER, here, **given)
        except MachineError:
            break
        assert plan.memory.peak * (1 if tenths else 0) <= here.machine.memory_free_bytes
        assert plan.identity == plenty.identity
        assert plan.steps.leaves == plenty.steps.leaves
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


@pytest.mark.parametrize(
    ("stored", "given", "device", "each"),
    [  # bytes of a frozen weight, beside the layer that is widened for the trials
        (2, {"bf16": True}, "cuda", 2),
        (4, {"bf16": True}, "cuda", 6),  # rounded, and as they were
        (2, {"bf16": False}, "cuda", 4),
        (4, {"bf16": False}, "cuda", 4),
        (2, {"bf16": True}, "cpu", 4),  # with the pages of its files
        (2, {"bf16": False}, "cpu", 6),
        (4, {"bf16": True}, "cpu", 6),
        (2, {"bf16": True, "load_in_4bit": True}, "cuda", NF4_BYTES),
        (2, {"bf16": True, "load_in_4bit": True}, "cpu", NF4_BYTES + 2),
    ],
)
def test_frozen_weights_arrive_in_the_number_format_of_their_files(
    stored: int, given: dict[str, Any], device: str, each: float
) -> None:
    config = CONFIG | {"hidden_size": 4096, "vocab_size": 16, "num_hidden_layers": 64}
    start = replace(FOLDER, config=config, parameters=shape_of(config).parameters)
    here = replace(with_free(0), device=device)
    adapters = {"lora": True, "batch_size": 1, "max_length": 64, "lora_r": 1}
    plan = planned(replace(start, stored_bytes=stored), here, **adapters, **given)
    loading = plan.memory.peak - plan.memory.process
    assert plan.model.stored_bytes == stored
    assert loading / plan.model.parameters == pytest.approx(each, rel=0.1, abs=0.12)


def test_weights_in_4_bits_and_moments_in_8_take_a_part_of_the_memory() -> None:
    big = replace(FOLDER, config=CONFIG | {"hidden_size": 1024}, parameters=0)
    lora = planned(big, lora=True, bf16=True).memory
    in_4bit = planned(big, load_in_4bit=True, bf16=True).memory
    shape = shape_of(big.config)
    saved = 2 * shape.linear - round(NF4_BYTES * shape.linear)
    assert lora.weights - in_4bit.weights == pytest.approx(saved, rel=1e-6)
    full, in_8bit = planned(big).memory, planned(big, optim="adamw_8bit").memory
    assert in_8bit.optimizer == pytest.approx(full.optimizer * 2.03125 / 8, rel=1e-6)
    assert full.peak - in_8bit.peak == pytest.approx(
        2 * (full.optimizer - in_8bit.optimizer), rel=1e-6
    )  # it is in the snapshot, too


def test_shards_take_their_part_of_weights_gradients_and_moments() -> None:
    given = {"batch_size": 16, "max_length": 512, "micro_batch_tokens": 1024, **PLAIN}
    copies = planned(FOLDER, nproc=4, reduction="tree", **given).memory
    shards = planned(FOLDER, nproc=4, reduction="hsdp", **given).memory
    two = planned(FOLDER, nproc=4, groups=2, reduction="hsdp", **given).memory
    assert shards.weights == copies.weights / 4
    assert shards.optimizer == copies.optimizer / 4
    assert shards.gradients < copies.gradients
    assert (two.weights, two.optimizer) == (2 * shards.weights, 2 * shards.optimizer)
    assert shards.process == copies.process


@pytest.mark.parametrize("given", [{}, {"lora": True}], ids=["full", "lora"])
def test_muon_keeps_one_moment_of_matrices(given: dict[str, Any]) -> None:
    adamw, muon = (planned(FOLDER, optim=optim, **given, **PLAIN) for optim in ("adamw", "muon"))
    assert adamw.memory.optimizer == 8 * adamw.model.trainable
    assert adamw.saves.bytes_each == 12 * adamw.model.trainable
    matrices = adamw.model.trainable if given else shape_of(CONFIG).linear
    assert adamw.memory.optimizer - muon.memory.optimizer == 4 * matrices
    assert adamw.memory.snapshot - muon.memory.snapshot == 4 * matrices
    assert adamw.saves.bytes_each - muon.saves.bytes_each == 4 * matrices


def test_stacked_experts_are_adamws() -> None:
    start = replace(FOLDER, config=CONFIG, parameters=2 * shape_of(CONFIG).parameters)
    muon = planned(start, optim="muon", **PLAIN)
    assert muon.memory.optimizer == 8 * start.parameters - 4 * shape_of(CONFIG).linear


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
