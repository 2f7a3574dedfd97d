"""Step layout: what is shared, why not, and what smaller micro-batches leave of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import HERE, VOCAB, decided, folder_of, llama, order_of, settings, text_store
from tests.training.prompted import ALL, OWNS, SYSTEM, prompted

from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.planning.prefix_sharing import prefix_savings
from headway.planning.step_layout import StepLayout
from headway.runs.measurements import speed_key

CONTEXT = folder_of(1024)


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


def test_computed_tokens_count_a_shared_prefix_once() -> None:
    shared = StepLayout(1, 2048, shared=0.25, share_prefixes=True)
    assert shared.computed_tokens(1000) == 750
    assert replace(shared, share_prefixes=False).computed_tokens(1000) == 1000
