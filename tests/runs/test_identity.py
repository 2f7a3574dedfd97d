"""Which plans are the same plan: what changes weights, saves or looks, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import TINY, decided, folder_of, in_memory

from headway.config.settings import table
from headway.planning.model_source import InitialModel
from headway.runs.identity import identity_of
from headway.runs.placement import difference
from headway.runs.plan import Parent

FOLDER = folder_of()
CHANGES: dict[str, Any] = {
    "max_length": 64,
    "batch_size": 3,
    "batch_tokens": 1200,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 3,
    "assistant_only_loss": False,
    "val_size": 5,
    "num_train_epochs": 2,
    "max_steps": 3,
    "max_tokens": 100,
    "learning_rate": 1e-4,
    "optim": "muon",
    "lr_scheduler_type": "linear",
    "warmup_steps": 3,
    "weight_decay": 0.0,
    "max_grad_norm": 2.0,
    "adam_beta1": 0.8,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-6,
    "lora": True,
    "seed": 1,
    "bf16": True,
    "save_steps": 7,
    "save_minutes": 1,
    "save_total_limit": 5,
    "keep_every": 50,
    "eval_steps": 3,
    "sample_steps": 3,
    "sample_prompts": ("The",),
    "sample_tokens": 10,
    "reset_optimizer": True,
    "add_special_tokens": "never",
    "learning_rate_multiplier": 2.0,
}
# What changes neither weights nor what is saved and looked at, or shows in the data and the model.
NO_CHANGES: dict[str, Any] = {
    "micro_batch_tokens": 512,
    "max_rejected": 0.5,
    "max_restarts": 3,
    "on_stall": "wait",
    "reduction": "fast",
    "max_time": 30,
    "device": "cpu",
    "gradient_checkpointing": True,
    "torch_compile": True,
    "deterministic": True,
    "threads": 7,
    "logging_steps": 3,
    "grace_s": 20,
    "output_dir": "elsewhere",
    "run_name": "mine",
    "exact": True,
    "truncation": "reject",
    "endpoint_url": "http://127.0.0.1:9000",
    "skip_corrupt": True,
    "drop_duplicates": True,
    "keep_empty_answers": True,
    "preferred_only": True,
    "survey_exact": 1_000_000_000,
    "trust_remote_code": True,
}
ELSEWHERE = {
    "replay",
    "nproc",
    "groups",
    "test",
    "model",
    "preset",
    "tokenizer",
    "vocab_size",
    "continue_run",
    "fresh",
}
LORA = {
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "lora_target_modules": ("q_proj",),
    "load_in_4bit": True,
}
TEXTS = in_memory(3201, 900)


def test_the_same_is_the_same_plan() -> None:
    assert decided(TEXTS, FOLDER).identity == decided(TEXTS, FOLDER).identity


@pytest.mark.parametrize("name", [row.name for row in table() if row.default not in (None, False)])
def test_a_default_that_is_spelt_out_is_the_same_plan(name: str) -> None:
    lora = {"lora": True} if name.startswith("lora_") else {}
    (default,) = [row.default for row in table() if row.name == name]
    spelt = decided(TEXTS, FOLDER, **lora, **{name: default})
    plain = decided(TEXTS, FOLDER, **lora)
    assert spelt.identity == plain.identity
    assert difference(plain, spelt) == "another model"  # nothing that a setting could show


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_changes_the_run_changes_the_plan(name: str) -> None:
    changed = decided(TEXTS, FOLDER, **{name: CHANGES[name]})
    assert changed.identity != decided(TEXTS, FOLDER).identity


@pytest.mark.parametrize("name", NO_CHANGES)
def test_a_setting_that_changes_nothing_in_the_run_does_not(name: str) -> None:
    changed = decided(TEXTS, FOLDER, **{name: NO_CHANGES[name]})
    assert changed.identity == decided(TEXTS, FOLDER).identity


@pytest.mark.parametrize("name", LORA)
def test_a_setting_of_the_adapters_changes_the_plan(name: str) -> None:
    plain = decided(TEXTS, FOLDER, lora=True)
    assert decided(TEXTS, FOLDER, lora=True, **{name: LORA[name]}).identity != plain.identity


def test_any_number_of_workers_goes_on_with_the_leaves_of_the_first() -> None:
    large = in_memory(400_000)
    one, four = (decided(large, FOLDER, batch_size=32, nproc=n) for n in (1, 4))
    assert one.steps.leaves == four.steps.leaves
    assert one.identity == four.identity
    few = decided(TEXTS, FOLDER), decided(TEXTS, FOLDER, nproc=4)
    assert few[0].steps.leaves < few[1].steps.leaves
    assert few[0].identity == few[1].identity == identity_of(few[1])
    grouped = decided(large, FOLDER, batch_size=32, nproc=4, groups=2)
    assert grouped.identity == four.identity


def test_every_setting_was_thought_of() -> None:
    assert {row.name for row in table()} == {*CHANGES, *NO_CHANGES, *LORA, *ELSEWHERE}


OTHER_STARTS = {
    "a preset": TINY,
    "another preset": InitialModel("preset", "mini", ""),
    "other weights": replace(FOLDER, weights_sha256="32" * 32),
    "a parent": replace(FOLDER, parent=Parent("a", "a/checkpoint-1", 1, "77" * 32, True)),
    "another parent": replace(FOLDER, parent=Parent("a", "a/checkpoint-1", 1, "78" * 32, True)),
}


def test_d17_d18_other_data_or_weights_are_another_plan() -> None:
    found = [decided(TEXTS, FOLDER).identity]
    found += [decided(TEXTS, start).identity for start in OTHER_STARTS.values()]
    for name in ("fingerprint", "tokenizer", "template"):
        found.append(decided(in_memory(3201, 900, **{name: "other"}), FOLDER).identity)
    assert len(set(found)) == len(found)


def test_another_place_is_not_another_plan() -> None:
    moved = replace(FOLDER, path="/elsewhere/base", name="elsewhere")
    assert decided(TEXTS, moved).identity == decided(TEXTS, FOLDER).identity
    store = in_memory(3201, 900)
    store.folder = Path("/another/cache")
    assert decided(store, FOLDER).identity == decided(TEXTS, FOLDER).identity
