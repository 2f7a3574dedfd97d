"""Files of other tools are told apart by their keys, and ours from all of them."""

import pytest

from headway.config.other_tools.files import TOOLS, recognize, tool_of
from headway.config.resolve import resolve
from headway.config.settings import Given, normalize, spellings


@pytest.mark.parametrize(
    ("keys", "tool"),
    [
        ("base_model datasets sequence_len learning_rate", "Axolotl"),
        ("model_name_or_path stage template cutoff_len bf16", "LLaMA-Factory"),
        ("checkpoint_dir train.epochs data.class_path seed", "LitGPT"),
        ("model_name_or_path dataset_name use_peft packing", "TRL"),
        ("output_dir logging_strategy save_strategy ddp_timeout", "transformers.TrainingArguments"),
        ("training_file method.type hyperparameters.n_epochs", "OpenAI's fine-tuning"),
        ("data model lora.r max_length num_train_epochs", ""),
        ("model cutoff_len base_model seed", ""),
        ("", ""),
    ],
)
def test_a_file_is_known_by_its_keys(keys: str, tool: str) -> None:
    assert tool_of(keys.split()) == tool


def test_one_key_is_enough_where_it_is_asked_for() -> None:
    tool, num = recognize(["sequence_len"])
    assert tool is TOOLS["axolotl"]
    assert num == 1


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_leaves_unsaid_is_a_setting_of_ours(name: str) -> None:
    tool = TOOLS[name]
    said = {**tool.unsaid, **tool.unsaid_lora}
    said.pop("lora.lora_alpha", None)
    resolve([Given(key, value, "you") for key, value in said.items()])
    assert not [mark for mark in tool.marks if normalize(mark) != mark]


def test_no_mark_of_another_tool_is_a_key_that_only_ours_has() -> None:
    ours = {"preset", "batch_tokens", "save_minutes", "sample_prompts", "val_size", "fresh"}
    assert ours <= set(spellings())
    assert not [mark for tool in TOOLS.values() for mark in tool.marks if mark in ours]
