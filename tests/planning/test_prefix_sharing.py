"""Rows that begin alike run that once: where it pays and is exact, and what comes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import (
    HERE,
    VOCAB,
    decided,
    folder_of,
    llama,
    order_of,
    plan_of,
    run,
    settings,
    text_store,
)
from tests.training.prompted import ALL, OWNS, SYSTEM, prompted

from headway.base.events import StepDone
from headway.base.pulse import Pulse
from headway.data.batching.packing import largest_shared_prefix
from headway.data.batching.rows import rows_of
from headway.data.batching.shared_prefixes import PrefixGroup
from headway.data.order import Numbers, StoreOrder, StreamOrder
from headway.data.survey.store import Store
from headway.planning import prefix_sharing as sharing
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.planning.prefix_sharing import prefix_savings, sharing_obstacle
from headway.runs.measurements import speed_key
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.runs.verify import verify

CONTEXT = folder_of(1024)
UNLIMITED = 1 << 40


# ---- what stands against it --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, ""),
        ({"attention_dropout": 0.1}, "attention_dropout 0.1 is random for each row"),
        ({"resid_pdrop": 0.25}, "resid_pdrop 0.25 is random for each row"),
        ({"layerdrop": 1}, "layerdrop 1 is random for each row"),
        ({"hidden_dropout_prob": 0.0, "attn_pdrop": 0}, ""),
        ({"dropout": None, "attention_dropout": True}, ""),
        ({"classifier_dropout": 0.1, "summary_first_dropout": 0.1}, ""),
        ({"text_config": {"attention_dropout": 0.5}}, "attention_dropout 0.5 is random for"),
        ({"attention_dropout": 0.5, "text_config": {"attention_dropout": 0.0}}, ""),
        ({"sliding_window": 99}, "the model has attention windows of 99 tokens"),
        ({"sliding_window": 100}, ""),
        ({"sliding_window": None}, ""),
        ({"attention_chunk_size": 64, "window_size": 32}, "windows of 32 tokens"),
        ({"sliding_window": 8, "use_sliding_window": True}, "windows of 8 tokens"),
        ({"sliding_window": 8, "use_sliding_window": False}, ""),
        ({"text_config": {"sliding_window": 8}}, "windows of 8 tokens"),
        ({"sliding_window": 8, "text_config": {"use_sliding_window": False}}, ""),
        ({"sliding_window": 8, "use_sliding_window": False, "embd_pdrop": 0.1}, "embd_pdrop 0.1"),
    ],
    ids=str,
)
def test_what_would_make_a_row_another_one_is_said(config: dict[str, Any], why: str) -> None:
    found = sharing_obstacle({"model_type": "llama", "hidden_size": 16} | config, 100, 0.0)
    assert why in found
    assert bool(found) == bool(why)


def test_dropout_of_adapters_is_said() -> None:
    assert sharing_obstacle(llama(), 100, 0.05) == "lora.lora_dropout 0.05 is random for each row"


# ---- how much it saves -------------------------------------------------------------------------


def test_all_of_a_small_epoch_is_looked_at(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path), 256)
    for batch, left_out in ((32, 31), (16, 2 * 15), (12, 11 + 11 + 7)):
        found = prefix_savings(rows, StoreOrder(1, 32, False, 0, batch), 1, UNLIMITED)
        assert found.share == pytest.approx(left_out * SYSTEM / ALL)
        assert found.leaves == 1


def test_a_family_that_is_cut_saves_less_and_fills_leaves(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path, owns=[11] * 32), 256)
    found = prefix_savings(
        rows, StoreOrder(1, 32, False, 0, 32), 4, SYSTEM + 40
    )  # 4 rows in a micro-batch
    assert found.share == pytest.approx(24 * SYSTEM / (32 * 210))
    assert found.leaves == 4
    assert prefix_savings(rows, StoreOrder(1, 32, False, 0, 32), 4, UNLIMITED).leaves == 1


def test_of_a_long_epoch_some_steps_are_looked_at_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(StoreOrder):
        def rows(self, step: int) -> tuple[int, Numbers]:
            seen.append(step)
            return super().rows(step)

    rows, order = rows_of(prompted(tmp_path), 256), Watched(1, 32, False, 0, 4)
    monkeypatch.setattr(sharing, "_MAX_STEPS", 4)
    prefix_savings(rows, order, 1, UNLIMITED)
    monkeypatch.setattr(sharing, "_MAX_ROWS", 8)
    prefix_savings(rows, order, 1, UNLIMITED)
    monkeypatch.setattr(sharing, "_MAX_ROWS", 1)
    prefix_savings(rows, order, 1, UNLIMITED)
    assert seen == [1, 3, 5, 7, 1, 5, 1]


def test_of_a_flow_the_sample_is_looked_at(tmp_path: Path) -> None:
    rows, order = rows_of(prompted(tmp_path), 256), StreamOrder(1, 10, 8, 4, 10**6)
    share = prefix_savings(rows, order, 1, UNLIMITED).share
    assert share == pytest.approx(7 / 8 * 32 * SYSTEM / ALL, rel=0.01)


def rows_of_family(family: PrefixGroup | None) -> list[int]:
    return sorted(family.rows) if family else []


def test_those_that_share_the_most_are_alike(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path), 256)
    assert rows_of_family(largest_shared_prefix(rows, np.array([3, 17, 5]))) == [3, 5, 17]
    assert largest_shared_prefix(rows, np.array([3])) is None
    assert largest_shared_prefix(rows, np.array([], dtype=np.int64)) is None


def test_of_two_families_the_one_that_begins_longer_is_alike(tmp_path: Path) -> None:
    store = prompted(tmp_path)
    ids = np.array(store.ids)
    for number, begin in enumerate(store.starts[4:10]):
        ids[begin], ids[begin + 150] = 99, 113 + number
    ids.tofile(tmp_path / "ids.bin")
    rows = rows_of(Store(tmp_path), 256)
    assert rows_of_family(largest_shared_prefix(rows, np.arange(10))) == [0, 1, 2, 3]
    assert rows_of_family(largest_shared_prefix(rows, np.arange(3, 10))) == [4, 5, 6, 7, 8, 9]


# ---- what is planned ---------------------------------------------------------------------------


def test_rows_of_one_system_prompt_share_it(tmp_path: Path) -> None:
    plan = decided(prompted(tmp_path), CONTEXT, batch_size=16)
    assert plan.steps.share_prefixes
    assert plan.data.shared == pytest.approx(30 * SYSTEM / ALL)
    assert plan.data.not_shared == ""
    assert plan.steps.tokens == round(ALL / 2)
    assert plan.computed_tokens == pytest.approx(ALL / 2 - 15 * SYSTEM, abs=1)


def test_leaves_and_micro_batches_are_of_what_runs(tmp_path: Path) -> None:
    store = prompted(tmp_path)
    plan = decided(store, CONTEXT, batch_size=32)  # 200 + 32 * 4.5 tokens run
    assert (plan.steps.leaves, plan.steps.micro_batch_tokens) == (1, 512)
    text = decided(store, InitialModel("folder", "base", "", llama(dropout=0.1)), batch_size=32)
    assert (text.steps.leaves, text.steps.micro_batch_tokens) == (2, 2048)


GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 512,
    "vocab_size": VOCAB,
    "embd_pdrop": 0.1,
}


@pytest.mark.parametrize(
    ("config", "given", "why"),
    [
        (GPT2, {}, "embd_pdrop 0.1 is random for each row"),
        (
            llama(),
            {"lora": True, "lora_dropout": 0.05},
            "lora.lora_dropout 0.05 is random for each row",
        ),
        (llama(sliding_window=64), {}, "the model has attention windows of 64 tokens"),
        (
            llama(),
            {"micro_batch_tokens": SYSTEM + 1},
            f"micro-batches of {SYSTEM + 1} tokens are too small for it",
        ),
    ],
    ids=["gpt2", "adapters", "window", "small"],
)
def test_why_rows_do_not_share_is_planned_with_what_it_would_save(
    config: dict[str, Any], given: dict[str, Any], why: str, tmp_path: Path
) -> None:
    start = InitialModel("folder", "base", "/base", config, parameters=9000)
    plan = decided(prompted(tmp_path), start, batch_size=16, **given)
    assert not plan.steps.share_prefixes
    assert plan.data.not_shared == why
    assert plan.data.shared == pytest.approx(30 * SYSTEM / ALL)
    assert plan.computed_tokens == plan.steps.tokens
    assert plan.time.saved.shared == 0


def test_adapters_without_dropout_share(tmp_path: Path) -> None:
    plan = decided(prompted(tmp_path), CONTEXT, batch_size=16, lora=True, lora_dropout=0.0)
    assert plan.steps.share_prefixes


@pytest.mark.parametrize(("own", "shares"), [(385, True), (395, False)])
def test_too_little_to_save_is_not_worth_it(own: int, shares: bool, tmp_path: Path) -> None:
    """Of four rows 180 tokens need not run again: a bit more than a tenth, or a bit less."""
    plan = decided(prompted(tmp_path, 60, [own] * 4), CONTEXT, batch_size=4)
    assert plan.data.shared == pytest.approx(180 / (4 * (59 + own)))
    assert plan.steps.share_prefixes == shares
    assert plan.data.not_shared == ("" if shares else "it would save too little")


def test_text_never_shares(tmp_path: Path) -> None:
    store = text_store(tmp_path, *[201] * 26)  # of 13 kinds, and each a row by itself
    plan = decided(store, CONTEXT, max_length=200, batch_size=26)
    assert plan.data.rows.planned == 26
    assert not plan.steps.share_prefixes
    assert (plan.data.shared, plan.data.not_shared) == (0, "")


def test_a_speed_is_of_rows_that_share_as_much(tmp_path: Path) -> None:
    plan = decided(prompted(tmp_path), CONTEXT, batch_size=16)
    keys = {
        speed_key(plan.model, steps, replace(plan.data, shared=shared), "cpu", "float32", 1, "2")
        for steps in (plan.steps, replace(plan.steps, share_prefixes=False))
        for shared in (0.2, 0.9)
    }
    assert len(keys) == 3


# Weights of the two layers of `llama()`: attention, and a gated MLP. Of its head: a row per token.
LAYERS = 2 * (16 * 8 * (2 * 2 + 2 * 1) + 3 * 16 * 32)
HEAD = VOCAB * 16


def test_what_is_not_computed_is_told_as_a_share_of_the_work(tmp_path: Path) -> None:
    plan = decided(prompted(tmp_path), CONTEXT, batch_size=16, num_train_epochs=3)
    mean = plan.data.lengths.mean
    layers = LAYERS + 2 * 2 * 2 * 8 * mean / 2  # and attention to half of a row
    trained = sum(OWNS) / ALL
    assert plan.data.untrained == pytest.approx(1 - trained)
    packed, full = layers + trained * HEAD, layers + HEAD
    shared, saved = 30 * SYSTEM / ALL, plan.time.saved
    assert saved.padding == plan.data.padding_to_max
    assert saved.untrained == pytest.approx(1 - packed / full)
    assert saved.shared == pytest.approx(shared * layers / packed)
    flops = 6 * ALL * 3 * (layers * (1 - shared) + trained * HEAD)
    assert plan.time.flops == pytest.approx(flops, rel=1e-3)


def test_rows_that_do_not_share_save_by_padding_and_logits_alone(tmp_path: Path) -> None:
    dropping = InitialModel("folder", "base", "/base", llama(dropout=0.1), parameters=9000)
    plain = decided(prompted(tmp_path), dropping, batch_size=16).time
    sharing = decided(Store(tmp_path), folder_of(), batch_size=16).time
    assert plain.saved == replace(sharing.saved, shared=0.0)
    assert plain.flops > 3 * sharing.flops


def test_where_memory_makes_micro_batches_smaller_the_plan_says_what_they_share(
    tmp_path: Path,
) -> None:
    store = prompted(tmp_path, 300, [8] * 32)
    wide = llama(hidden_size=256, intermediate_size=1024, num_hidden_layers=8)
    start = InitialModel("folder", "base", "/base", wide | {"max_position_embeddings": 512}, 10**6)
    roomy = decided(store, start, batch_size=32)
    free = round(0.95 * roomy.memory.peak)
    here = replace(HERE, machine=replace(HERE.machine, memory_free_bytes=free))
    asked = settings(batch_size=32, gradient_checkpointing=False)
    plan = decide(asked, ("notes.txt",), store, start, here)
    assert plan.steps.micro_batch_tokens < roomy.steps.micro_batch_tokens
    rows, order = rows_of(store, plan.data.max_length), order_of(plan, store)
    found = prefix_savings(rows, order, plan.steps.leaves, plan.steps.micro_batch_tokens).share
    assert plan.data.shared * plan.steps.share_prefixes == pytest.approx(found, abs=0.05)


# ---- what runs ----------------------------------------------------------------------------------


def of_a_job(folder: Path, plan: Plan) -> tuple[list[float], list[int], Any]:
    """The losses and the computed tokens of each step, and the receipt's tokens."""
    ran = run(folder, plan)
    assert ran.code == 0
    steps = ran.of(StepDone)
    assert ran.receipt.tokens.input == sum(step.input_tokens for step in steps)
    return [s.loss for s in steps], [s.computed_tokens for s in steps], ran.receipt.tokens


def test_a_job_that_shares_learns_what_it_would_without(tmp_path: Path) -> None:
    store = prompted(tmp_path / "chats")
    plan = plan_of(store, batch_size=8, num_train_epochs=2, learning_rate=1e-2)
    assert plan.steps.share_prefixes
    apart = replace(plan, steps=replace(plan.steps, share_prefixes=False))
    losses, computed, tokens = of_a_job(tmp_path / "shared", plan)
    other_losses, other_computed, other_tokens = of_a_job(tmp_path / "apart", apart)
    assert len(losses) == 8
    assert losses == pytest.approx(other_losses, abs=1e-4)
    assert losses[-1] < losses[0] - 0.1
    assert tokens.shared == tokens.input - sum(computed) == 2 * 28 * SYSTEM
    assert tokens.shared / tokens.input == pytest.approx(plan.data.shared)
    assert (other_tokens.shared, other_tokens.padding) == (0, 0)
    assert sum(other_computed) == tokens.input == other_tokens.input
    assert tokens.trained == other_tokens.trained


def test_what_is_only_looked_at_shares_too(tmp_path: Path) -> None:
    plan = plan_of(prompted(tmp_path / "chats"), batch_size=8, val_size=4)
    probes = run(tmp_path / "run", plan).job.trainer.probes
    for micros in (probes.probe, probes.held_out):
        num_rows = sum(len(micro.rows_R) for micro in micros)
        assert num_rows in (8, 4)
        tokens = sum(len(micro.ids_N) for micro in micros)
        assert SYSTEM < tokens < SYSTEM + 10 * num_rows


def test_a_job_whose_model_may_not_share_runs_each_row_whole(tmp_path: Path) -> None:
    plan = plan_of(prompted(tmp_path / "chats"), batch_size=8)
    (tmp_path / "run").mkdir()
    settled = replace(Settled.from_plan(plan), has_tried=True, share_prefixes=False)
    settled.save(tmp_path / "run")
    _, computed, tokens = of_a_job(tmp_path / "run", plan)
    assert tokens.shared == 0
    assert sum(computed) == tokens.input == ALL


def test_a_receipt_that_tells_other_shared_tokens_is_found(tmp_path: Path) -> None:
    ran = run(tmp_path / "run", plan_of(prompted(tmp_path / "chats"), batch_size=8))
    assert verify(ran.folder, Pulse()).differences == ()
    path = ran.folder.path / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["tokens"]["shared"] += 1
    path.write_text(json.dumps(receipt))
    assert [claim.name for claim in verify(ran.folder, Pulse()).differences] == ["tokens.shared"]
