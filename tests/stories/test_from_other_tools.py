"""Coming from another tool: its words, its files, and the pages about them, as they are typed."""

import json
import re
import shlex
from pathlib import Path

import pytest
from tests.helpers import save_model

from .conftest import Headway

DOCS = Path(__file__).parents[2] / "docs"
CHATS = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"What is {i} and {i}?"},
                {"role": "assistant", "content": f"It is {2 * i}.", "weight": i % 2},
                {"role": "user", "content": "And one more?"},
                {"role": "assistant", "content": f"{2 * i + 1}."},
            ]
        }
    )
    + "\n"
    for i in range(24)
)
FILES = {
    "axolotl.yml": (
        "base_model: models/small\nadapter: lora\nlora_r: 4\nlora_alpha: 8\n"
        "lora_target_modules: [q_proj, v_proj]\ndatasets:\n- path: chats.jsonl\n"
        "  type: chat_template\nsequence_len: 128\nmicro_batch_size: 4\nnum_epochs: 2\n"
        "learning_rate: 0.001\noptimizer: adamw_torch\nlr_scheduler: cosine\nbf16: auto\n"
        "flash_attention: true\noutput_dir: ./out/small\n"
    ),
    "sft.yaml": (
        "model_name_or_path: models/small\nstage: sft\ndo_train: true\nfinetuning_type: lora\n"
        "lora_rank: 4\nlora_target: all\ndataset: small_chats\ntemplate: qwen\ncutoff_len: 128\n"
        "output_dir: saves/small\nlearning_rate: 1.0e-4\nnum_train_epochs: 2.0\n"
    ),
    "lit.yaml": (
        "checkpoint_dir: models/small\nout_dir: out/lora\nlora_r: 4\nlora_key: true\n"
        "data:\n  class_path: litgpt.data.JSON\n  init_args:\n    json_path: chats.jsonl\n"
        "    mask_prompt: true\ntrain:\n  global_batch_size: 8\n  micro_batch_size: 1\n"
        "  epochs: 2\n  max_seq_length: 128\n"
    ),
    "trl.yaml": (
        "model_name_or_path: models/small\ndataset_name: ./chats.jsonl\nuse_peft: true\n"
        "lora_r: 4\npacking: true\nmax_length: 128\noutput_dir: out/sft\nreport_to: none\n"
        "assistant_only_loss: true\nmax_steps: 4\n"
    ),
    "job.json": json.dumps(
        {
            "training_file": "chats.jsonl",
            "model": "some-model-of-theirs",
            "suffix": "support",
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
            },
        }
    ),
    "data/dataset_info.json": json.dumps({"small_chats": {"file_name": "../chats.jsonl"}}),
}


@pytest.fixture
def there(headway: Headway) -> Headway:
    """A folder with a small model, chats, and a file of each tool."""
    save_model(headway.here / "models" / "small")
    (headway.here / "data").mkdir()
    for name, text in {**FILES, "chats.jsonl": CHATS}.items():
        (headway.here / name).write_text(text)
    return headway


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize(
    "page", ["from-openai.md", "from-trainer.md", "from-axolotl.md", "from-llamafactory.md"]
)
def test_the_commands_of_a_page_work(page: str, there: Headway) -> None:
    if page == "from-trainer.md":
        (there.here / "sft.yaml").write_text(FILES["trl.yaml"])
    found = commands(page)
    assert len(found) >= 4
    for verb, *words in found:
        told = there("plan" if verb == "train" else verb, *words)
        assert told.code == 0, (verb, words, told.err)


@pytest.mark.parametrize("name", ["axolotl.yml", "sft.yaml", "lit.yaml", "trl.yaml"])
def test_a_converted_file_is_planned_as_it_says(name: str, there: Headway) -> None:
    told = there("convert", name, "-o", "run.yaml")
    assert told.code == 0, told.err
    plan = there("plan", "run.yaml", "--json")
    assert plan.code == 0, plan.err
    settings = {one["name"]: one["value"] for one in plan.json["settings"]}
    assert settings["lora"] is True
    assert settings["lora.r"] == 4
    assert settings["max_length"] == 128
    assert settings["adam_beta2"] == 0.999
    assert plan.json["data"]["rows"]["accepted"] == 24


def test_openais_file_and_names_work_from_end_to_end(there: Headway) -> None:
    words = ["--n_epochs", 2, "--learning_rate_multiplier", 50, "--batch_size", "auto"]
    told = there("train", "chats.jsonl", "--model", "models/small", *words, "--max-steps", 3)
    assert told.code == 0, told.err
    plan = json.loads((there.here / "runs/chats/plan.json").read_text())
    assert plan["learning"]["peak"] == pytest.approx(50 * 2e-5)
    settings = {one["name"]: one for one in plan["settings"]}
    assert settings["num_train_epochs"]["value"] == 2
    assert settings["batch_size"]["origin"] == "auto"
    assert there.receipt("chats")["contract"]["verdict"] == "kept"


def test_every_foreign_flag_and_wrong_value_is_told_at_once(there: Headway) -> None:
    told = there(
        "train", "chats.jsonl", "--model_name_or_path", "models/small", "--train-on-inputs",
        "--adapter", "qlora", "--stage", "sft", "--deepspeed", "ds.json", "--lr", "fast",
        "--grad_clip", "1", "--overwrite_output_dir", "--resume", "--save_strategy", "epoch",
    )  # fmt: skip
    assert told.code == 2
    for line in (
        "--model models/small",
        "--no-assistant-only-loss",
        "--max-grad-norm 1",
        "--fresh",
        "without --resume",
        "without --deepspeed",
        "without --stage",
        "--learning-rate 2e-4",
    ):
        assert f"  try   {line}" in told.err
    for misled in ("--seed", "--preset", "--gradient-accumulation", "--max-steps", "--output-dir"):
        assert misled not in told.err
    assert not (there.here / "runs").exists()
