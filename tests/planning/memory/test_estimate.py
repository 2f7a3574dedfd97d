"""Peak memory is counted part by part."""

from dataclasses import replace
from typing import Any

import pytest
from tests.planning.memory.plans import CONFIG, FOLDER, PLAIN, planned, with_free

from headway.model.sizes import NF4_BYTES, shape_of


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
    here = replace(with_free(0 if device == "cpu" else 10**12), device=device)
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
