"""What a continued run takes over: the layer below what is given now."""

from dataclasses import dataclass
from typing import Any

import pytest
from tests.helpers import settings

from headway.config.inherited import INHERITED, inherit
from headway.config.settings import ChosenBy, Settings, table

FIELDS = {row.name for row in table()}


@dataclass(frozen=True)
class Saved:
    name: str
    value: Any
    origin: str = "--flag"
    asked: Any = None
    inherited: ChosenBy | None = None


def continued(*saved: Saved, **given: Any) -> Settings:
    return inherit(settings(continue_run="first", **given), "first", saved)


ALWAYS = [
    ("max_length", 64),
    ("batch_size", 4),
    ("assistant_only_loss", False),
    ("truncation", "reject"),
    ("learning_rate", 3e-3),
    ("lr_scheduler_type", "linear"),
    ("weight_decay", 0.0),
    ("max_grad_norm", 0.5),
    ("adam_beta1", 0.8),
    ("adam_beta2", 0.99),
    ("adam_epsilon", 1e-6),
    ("optim", "adamw_8bit"),
    ("seed", 7),
    ("lora", True),
    ("load_in_4bit", True),
    ("lora.r", 8),
    ("lora.lora_alpha", 16.0),
    ("lora.lora_dropout", 0.1),
    ("lora.target_modules", ("q_proj", "v_proj")),
]
IF_GIVEN = [
    ("batch_tokens", 512),
    ("micro_batch_tokens", 128),
    ("warmup_steps", 0.1),
    ("warmup_steps", 0.0),
    ("bf16", False),
    ("gradient_checkpointing", True),
    ("deterministic", True),
]
NEVER = [
    ("num_train_epochs", 3.0),
    ("max_steps", 8),
    ("max_tokens", 1000),
    ("max_time", 60.0),
    ("val_size", 0.1),
    ("drop_duplicates", True),
    ("max_rejected", 0.5),
    ("trust_remote_code", True),
    ("model", "models/small"),
    ("preset", "tiny"),
    ("tokenizer", "words"),
    ("vocab_size", 300),
    ("reset_optimizer", True),
    ("device", "cuda"),
    ("threads", 3),
    ("torch_compile", True),
    ("save_steps", 10),
    ("run_name", "first"),
    ("fresh", True),
    ("exact", True),
    ("test", True),
    ("per_device_train_batch_size", 2),
    ("warmup_steps", 10.0),  # a number of steps fits one length of run
]


def field(name: str) -> str:
    return next(row.name for row in table() if name in (row.name, row.metadata["name"]))


@pytest.mark.parametrize("origin", ["--flag", "auto", "run zero"])
@pytest.mark.parametrize(("name", "value"), ALWAYS)
def test_how_it_was_trained_is_kept_whoever_chose_it(name: str, value: Any, origin: str) -> None:
    found = continued(Saved(name, value, origin))
    assert getattr(found, field(name)) == value
    assert found.origin(field(name)) == "run first"
    assert found.inherited[field(name)] == ("planner" if origin == "auto" else "person")


@pytest.mark.parametrize(("name", "value"), IF_GIVEN)
def test_what_a_machine_or_a_length_decides_is_kept_only_if_a_person_set_it(
    name: str, value: Any
) -> None:
    assert getattr(continued(Saved(name, value)), name) == value
    assert not continued(Saved(name, value, "auto")).given(name)


@pytest.mark.parametrize(("name", "value"), NEVER)
def test_what_belongs_to_the_data_or_the_run_is_not_kept(name: str, value: Any) -> None:
    assert continued(Saved(name, value)) == settings(continue_run="first")


def test_every_setting_is_in_one_of_the_lists() -> None:
    tried = {field(name) for name, _ in (*ALWAYS, *IF_GIVEN)}
    assert tried == set(INHERITED)
    assert set(INHERITED) <= FIELDS


@pytest.mark.parametrize(("name", "value"), ALWAYS)
def test_what_is_given_now_wins(name: str, value: Any) -> None:
    now = {"max_length": 32, "batch_size": 2, "learning_rate": 1e-4, "seed": 1}.get(name)
    if now is None:
        now = getattr(Settings(), field(name))
    found = continued(Saved(name, value), **{field(name): now})
    assert getattr(found, field(name)) == now
    assert found.origin(field(name)) == f"--{field(name)}"
    assert field(name) not in found.inherited


@pytest.mark.parametrize(
    "given",
    [{"batch_size": 2}, {"batch_tokens": 64}, {"per_device_train_batch_size": 2}],
)
@pytest.mark.parametrize("saved", [Saved("batch_size", 4), Saved("batch_tokens", 512)])
def test_a_batch_that_is_given_now_replaces_the_other_in_any_unit(
    saved: Saved, given: dict[str, int]
) -> None:
    found = continued(saved, **given)
    assert {name for name in ("batch_size", "batch_tokens") if found.given(name)} == {
        name for name in given if name in ("batch_size", "batch_tokens")
    }


def test_a_batch_in_tokens_stays_one_in_tokens() -> None:
    found = continued(Saved("batch_tokens", 512), Saved("batch_size", 9, "auto"))
    assert (found.batch_tokens, found.batch_size) == (512, None)


def test_a_value_that_the_data_there_could_not_take_is_the_one_that_was_asked_for() -> None:
    lowered = Saved("batch_size", 1, "run zero", asked=4, inherited="planner")
    found = continued(lowered)
    assert (found.batch_size, found.inherited) == (4, {"batch_size": "planner"})


def test_new_adapters_do_not_get_the_learning_rate_of_all_weights() -> None:
    full = (Saved("learning_rate", 3e-3, "auto"), Saved("lora", False, "default"))
    assert continued(*full, lora=True).learning_rate is None
    assert continued(*full, lora=True, learning_rate=1e-3).learning_rate == 1e-3
    adapters = (Saved("learning_rate", 1e-3), Saved("lora", True))
    assert continued(*adapters, lora=True).learning_rate == 1e-3


def test_a_multiplier_is_of_the_rate_there_and_is_not_applied_twice() -> None:
    there = (Saved("learning_rate", 6e-3, "auto"), Saved("learning_rate_multiplier", 2.0))
    assert continued(*there).learning_rate_multiplier is None
    found = continued(*there, learning_rate_multiplier=3.0)
    assert (found.learning_rate, found.learning_rate_multiplier) == (6e-3, 3.0)


def test_a_default_that_is_still_one_is_not_worth_a_word() -> None:
    assert continued(Saved("weight_decay", 0.1, "default")).origins == {
        "continue_run": "--continue_run"
    }
    other = continued(Saved("weight_decay", 0.2, "default"))  # the default of an older version
    assert (other.weight_decay, other.origin("weight_decay")) == (0.2, "run first")


def test_settings_of_another_version_are_passed_over() -> None:
    assert continued(Saved("momentum", 0.9)) == settings(continue_run="first")
