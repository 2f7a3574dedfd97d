"""Renamed settings: our line for any value of theirs is one that Headway takes."""

import pytest

from headway.base.errors import Problems, Refusal, UsageError
from headway.config.other_tools.lookup import answer
from headway.config.other_tools.meaning import Outcome
from headway.config.other_tools.same import DATA_NAMES, OWN_VALUES, SAME
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings, hints, spellings

NAMES = [name for meaning in SAME for name in meaning.names.split()]
VALUES = {name: tuple(meaning.values) for meaning in SAME for name in meaning.names.split()}


def refused(*given_settings: Given) -> Refusal:
    with pytest.raises((UsageError, Problems)) as refusal:
        resolve(given_settings)
    return refusal.value


def tries(refusal: Refusal) -> list[str]:
    return [remedy.do for remedy in refusal.remedies]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("cutoff_len: 512", "max_length: 512"),
        ("micro_batch_size: 2", "per_device_train_batch_size: 2"),
        ("val_set_size: 0.05", "val_size: 0.05"),
        ("model_name_or_path: models/qwen", "model: models/qwen"),
        ("num_epochs: 3", "num_train_epochs: 3"),
        ("warmup_ratio: 0.03", "warmup_steps: 0.03"),
        ("train_on_inputs: false", "assistant_only_loss: true"),
        ("train_on_inputs: true", "assistant_only_loss: false"),
        ("adapter: lora", "lora: true"),
        ("finetuning_type: full", "lora: false"),
        ("lora_target: all", "lora.target_modules: all-linear"),
        ("precision: bf16-mixed", "bf16: true"),
        ("optimizer: adamw_torch", "optim: adamw"),
        ("lr_scheduler: linear", "lr_scheduler_type: linear"),
        ("cutoff_len: long", "max_length: 128"),
    ],
)
def test_a_line_of_another_tool_gets_our_spelling_of_that_line(theirs: str, ours: str) -> None:
    name, _, value = theirs.partition(": ")
    refusal = refused(Given(name, value, "run.yaml:7:1"))
    assert refusal.have == theirs
    assert refusal.need == "Headway's name for it"
    assert tries(refusal) == [ours]


def test_what_is_suggested_for_another_tools_line_works() -> None:
    values = ("3", "true", "false", "something")
    for name, value in [(one, value) for one in NAMES for value in (*values, *VALUES[one])]:
        found = answer(name, value)
        assert found
        resolve([Given(ours, text, "you") for ours, text in found.lines])
        assert found.lines or found.because


@pytest.mark.parametrize("name", sorted(DATA_NAMES))
def test_names_of_data_are_told_where_data_goes(name: str) -> None:
    assert name not in spellings()
    assert tries(refused(Given(name, "a.jsonl", "run.yaml:1:1"))) == ["data: a.jsonl"]
    assert tries(refused(Given(name, "a b.jsonl", f"--{name}"))) == ["headway train 'a b.jsonl'"]


@pytest.mark.parametrize("row_name", OWN_VALUES)
def test_every_word_for_a_value_of_ours_is_taken_or_refused_with_a_line(row_name: str) -> None:
    assert row_name in hints()
    for word, ours in OWN_VALUES[row_name].items():
        given = Given(row_name, word, "run.yaml:1:1")
        if ours is None:
            assert getattr(resolve([given]), row_name) == getattr(Settings(), row_name)
        elif isinstance(ours, str):
            assert resolve([given]) == resolve([Given(row_name, ours, "you")])
        else:
            assert ours.outcome in (Outcome.NOT_HERE, Outcome.RENAMED)
            assert tries(refused(given))
