"""A line of another tool's configuration gets the same line with our name and value."""

import pytest

from headway.base.errors import Problems, Refusal, UsageError
from headway.config.other_tools import FOREIGN, FOREIGN_VALUES
from headway.config.resolve import resolve
from headway.config.settings import Given, normalize, spellings


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
        ("adapter: lora", "lora: true"),
        ("finetuning_type: full", "lora: false"),
        ("lora_target: all", "lora.target_modules: all-linear"),
        ("precision: bf16-mixed", "bf16: true"),
        ("optimizer: adamw_torch", "optim: adamw"),
        ("lr_scheduler: linear", "lr_scheduler_type: linear"),
    ],
)
def test_a_line_of_another_tool_gets_our_spelling_of_that_line(theirs: str, ours: str) -> None:
    name, _, value = theirs.partition(": ")
    refusal = refused(Given(name, value, "run.yaml:7:1"))
    assert refusal.have == theirs
    assert refusal.need == "Headway's name for it"
    assert tries(refusal) == [ours]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_suggested_for_another_tools_line_works(foreign: str) -> None:
    assert foreign not in spellings()
    assert foreign == normalize(foreign)
    for value in ("3", "true", "something", *FOREIGN_VALUES.get(foreign, {})):
        (line,) = tries(refused(Given(foreign, value, "run.yaml:1:1")))
        name, _, ours = line.partition(": ")
        resolve([Given(name, ours, "you")])
