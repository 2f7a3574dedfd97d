"""The text of a converted file is a settings file of ours, with a comment for every key."""

from pathlib import Path

import pytest

from headway.config.conversion.conversion import convert
from headway.config.conversion.text import quoted, text_of_conversion
from headway.config.resolve import resolve
from headway.config.yaml_file import read_settings

FILES = {
    "axolotl": "base_model: m\nadapter: lora\nlora_target_modules: [q_proj, v_proj]\n"
    "datasets:\n- path: a b.jsonl\n  type: alpaca\nsequence_len: 64\noutput_dir: out/on\n"
    "special_tokens:\n  pad_token: '<pad>'\nflash_attention: true\nwandb_entity:\n",
    "llamafactory": "stage: sft\ntemplate: qwen\ndataset: a.json\nfinetuning_type: lora\n",
    "litgpt": "checkpoint_dir: m\nlora_r: 4\ntrain:\n  global_batch_size: 2\n",
    "trl": "model_name_or_path: m\ndataset_name: 'no'\nuse_peft: true\n",
    "transformers": '{"output_dir": "x # y", "num_train_epochs": 1, "save_strategy": "steps"}',
    "openai": '{"training_file": "null", "hyperparameters": {"n_epochs": 1}}',
}


@pytest.mark.parametrize("tool", FILES)
def test_what_is_written_is_read_back_as_it_was_meant(tool: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.yml", tmp_path / "ours.yaml"
    theirs.write_text(FILES[tool])
    made = convert(theirs, tool)
    assert made.problems == []
    ours.write_text(text_of_conversion(made, theirs))
    file = read_settings(ours)
    assert file.data == made.data
    assert {one.name for one in file.given} == set(made.settings)
    settings = resolve(file.given)
    assert len(settings.origins) == len(made.settings)


def test_every_key_has_a_comment(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.yml"
    theirs.write_text(FILES["axolotl"])
    text = text_of_conversion(convert(theirs), theirs)
    for said in (
        "# theirs.yml, written for Axolotl",
        "  # base_model: m",
        "  # sequence_len: 64",
        "#   special_tokens.pad_token: <pad>: rows have no padding",
        "#   flash_attention: true: ",
        "#   wandb_entity: it sets nothing",
        "# Defaults of Axolotl that differ from Headway's:\n",
        "# Different here:\n#   datasets[0].type: ",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("text", "yaml"),
    [
        ("a/b.jsonl", "a/b.jsonl"),
        ("hf://owner/name", "hf://owner/name"),
        ("2e-4", "2e-4"),
        ("null", '"null"'),
        ("on", '"on"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("", '""'),
        ("-", '"-"'),
        ("é\n", '"é\\n"'),
    ],
)
def test_a_text_is_quoted_where_yaml_would_read_something_else(text: str, yaml: str) -> None:
    assert quoted(text) == yaml
