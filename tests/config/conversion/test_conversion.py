"""Whole files of other tools: the settings they come to, and what decides that is missing."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from headway.base.errors import UsageError
from headway.config.conversion.conversion import Conversion, convert
from headway.config.conversion.text import text_of_conversion
from headway.config.other_tools.files import TOOLS
from headway.config.other_tools.lookup import meanings
from headway.config.other_tools.same import DATA_NAMES
from headway.config.resolve import resolve
from headway.config.settings import spellings
from headway.config.yaml_file import read_settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(text: str, tool: str = "") -> Conversion:
    Path("theirs.yml").write_text(text)
    return convert(Path("theirs.yml"), tool)


def values(found: Conversion) -> dict[str, str]:
    return {name: value for name, (value, _) in found.settings.items()}


AXOLOTL = """\
base_model: owner/model
adapter: lora
lora_r: 16
lora_target_linear: true
datasets:
- path: chats.jsonl
  type: chat_template
sequence_len: 2048
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
learning_rate: 2e-4
optimizer: adamw_bnb_8bit
train_on_inputs: false
output_dir: ./out/chats
wandb_project: mine
lora_model_dir:
"""


def test_axolotl() -> None:
    found = made(AXOLOTL)
    assert (found.tool, found.data, found.problems) == ("Axolotl", ("chats.jsonl",), [])
    assert values(found) == {
        "model": "owner/model",
        "lora": "true",
        "lora.r": "16",
        "lora.target_modules": "all-linear",
        "max_length": "2048",
        "per_device_train_batch_size": "2",
        "gradient_accumulation_steps": "4",
        "num_train_epochs": "3",
        "learning_rate": "2e-4",
        "optim": "adamw_8bit",
        "assistant_only_loss": "true",
        "output_dir": "out",
        "run_name": "chats",
        "weight_decay": "0",
        "adam_beta2": "0.999",
        "truncation": "reject",
        "warmup_steps": "0.03",
        "lora.lora_alpha": "8",
    }
    assert [said for said, _ in found.not_needed] == ["sample_packing: true", "lora_model_dir"]
    assert [said for said, _ in found.not_here] == ["wandb_project: mine"]


@pytest.mark.parametrize(
    "lines",
    [
        "adapter: qlora\nload_in_4bit: true\nbnb_4bit_quant_type: nf4\nload_in_8bit: false",
        "load_in_4bit: true\nbnb_4bit_use_double_quant: true\nbnb_4bit_compute_dtype: bfloat16",
        "adapter: lora\nquantization_bit: 4\nquantization_method: bitsandbytes",
    ],
)
def test_weights_in_4_bits_stay_in_4_bits(lines: str) -> None:
    text = AXOLOTL.replace("adapter: lora\n", "") if "adapter" in lines else AXOLOTL
    found = made(f"{text}{lines}\n")
    assert found.problems == []
    assert (values(found)["load_in_4bit"], values(found)["lora"]) == ("true", "true")


def test_llama_factory() -> None:
    found = made(
        "model_name_or_path: owner/model\nstage: sft\ndo_train: true\nfinetuning_type: lora\n"
        "lora_rank: 4\nlora_target: q_proj,v_proj\ndataset: a.json\ntemplate: qwen\n"
        "cutoff_len: 1024\noutput_dir: saves/a\nmax_length: 512\nwarmup_ratio: 0.1\n"
    )
    assert (found.tool, found.data, found.problems) == ("LLaMA-Factory", ("a.json",), [])
    got = values(found)
    assert got["lora.r"] == "4"
    assert got["lora.lora_alpha"] == "8"  # twice the rank
    assert got["lora.target_modules"] == "q_proj,v_proj"
    assert got["max_length"] == "1024"  # theirs is of generated text
    assert got["warmup_steps"] == "0.1"
    assert got["lr_scheduler_type"] == "linear"  # Trainer's default
    assert (got["per_device_train_batch_size"], got["num_train_epochs"]) == ("8", "3")


def test_llama_factory_trains_adapters_unless_told_otherwise() -> None:
    assert values(made("stage: sft\ntemplate: qwen\ncutoff_len: 8\n"))["lora"] == "true"
    full = values(made("stage: sft\ntemplate: qwen\nfinetuning_type: full\n"))
    assert full["lora"] == "false"
    assert "lora.r" not in full


def test_litgpt() -> None:
    found = made(
        "checkpoint_dir: checkpoints/owner/model\nout_dir: out/lora\nprecision: bf16-true\n"
        "lora_r: 8\nlora_key: true\nlora_mlp: false\n"
        "data:\n  class_path: litgpt.data.JSON\n  init_args:\n    json_path: a.json\n"
        "    mask_prompt: true\n    val_split_fraction: 0.1\n"
        "train:\n  global_batch_size: 8\n  micro_batch_size: 2\n  epochs: 2\n  max_norm:\n"
        "eval:\n  interval: 50\n  max_iters: 100\n"
        "optimizer:\n  class_path: torch.optim.AdamW\n  init_args:\n    lr: 0.0002\n"
        "    betas: [0.9, 0.95]\n"
    )
    assert (found.tool, found.data, found.problems) == ("LitGPT", ("a.json",), [])
    got = values(found)
    assert got["model"] == "owner/model"
    assert got["batch_size"] == "8"
    assert "per_device_train_batch_size" not in got
    assert got["assistant_only_loss"] == "true"
    assert got["lora.target_modules"] == "q_proj,k_proj,v_proj"
    assert (got["adam_beta1"], got["adam_beta2"]) == ("0.9", "0.95")
    assert got["eval_steps"] == "50"
    assert "max_steps" not in got  # eval.max_iters is none of the training
    assert got["max_grad_norm"] == "1e9"  # LitGPT clips nothing by default


def test_trl() -> None:
    found = made(
        "model_name_or_path: owner/model\ndtype: float32\nbf16: true\ndataset_name: owner/data\n"
        "use_peft: true\nlora_r: 32\noutput_dir: Owner2.5-SFT\npacking: true\nmax_steps: -1\n"
        "report_to: none\n"
    )
    assert (found.tool, found.data, found.problems) == ("TRL", ("hf://owner/data",), [])
    got = values(found)
    assert got["bf16"] == "true"  # dtype is that of the weights as they are loaded
    assert got["run_name"] == "Owner2.5-SFT"
    assert got["learning_rate"] == "2e-5"
    assert got["max_length"] == "1024"
    assert got["assistant_only_loss"] == "false"
    assert got["lora.target_modules"] == "q_proj,v_proj"
    assert "max_steps" not in got


def test_the_arguments_of_a_trainer() -> None:
    found = made(TrainingArguments(output_dir="out/run", max_steps=50).to_json_string())
    assert found.tool == "transformers.TrainingArguments"
    assert found.problems == []
    got = values(found)
    assert (got["optim"], got["max_steps"], got["run_name"]) == ("adamw", "50", "run")
    assert got["adam_beta2"] == "0.999"


def test_openai() -> None:
    found = made(
        '{"training_file": "a.jsonl", "model": "some-model", "suffix": "mine", "method": {"type":'
        ' "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto",'
        ' "learning_rate_multiplier": 2}}}}'
    )
    assert (found.tool, found.data, found.problems) == ("OpenAI's fine-tuning", ("a.jsonl",), [])
    assert values(found) == {
        "run_name": "mine",
        "num_train_epochs": "3",
        "learning_rate_multiplier": "2",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("load_in_8bit: true", "theirs.yml:19: load_in_8bit: true is not available"),
        ("adapter: vera", "theirs.yml:19: adapter: vera is not available"),
        ("rl: dpo", "theirs.yml:19: rl: dpo is not available"),
        ("trl:\n  beta: 0.1", "theirs.yml:20: trl.beta: 0.1 is not available"),
        ("neftune_noise_alpha: 5", "theirs.yml:19: neftune_noise_alpha: 5 is not available"),
        ("val_set_size: many", "theirs.yml:19: val_set_size: many is not available"),
        ("unheard_of: 1", "theirs.yml:19: unheard_of: 1 is not available"),
        ("weight_decay: strong", "theirs.yml:19: weight_decay: strong is not available"),
    ],
)
def test_what_decides_the_result_and_has_no_counterpart_is_a_problem(line: str, said: str) -> None:
    text = AXOLOTL.replace("adapter: lora\n", "") if line.startswith("adapter") else AXOLOTL
    where = said if text == AXOLOTL else said.replace(":19:", ":18:")
    found = made(f"{text}{line}\n")
    assert [problem.what for problem in found.problems] == [where]
    assert found.problems[0].remedies


@pytest.mark.parametrize(
    "line",
    ["deepspeed: zero1.json", "fp16: true", "save_steps: 0.1", "evals_per_epoch: 4", "tf32: true"],
)
def test_what_decides_nothing_is_none(line: str) -> None:
    assert made(f"{AXOLOTL}{line}\n").problems == []


def test_two_values_for_one_setting_are_a_problem_unless_one_is_stronger() -> None:
    (problem,) = made(f"{AXOLOTL}max_seq_len: 512\n").problems
    assert "max_seq_len: 512 after sequence_len: 2048" in problem.what
    both = made(f"{AXOLOTL}warmup_ratio: 0.1\nwarmup_steps: 0\n")
    assert both.problems == []
    assert values(both)["warmup_steps"] == "0.1"
    names = made(f"{AXOLOTL}lora_target_modules: [q_proj]\n")
    assert values(names)["lora.target_modules"] == "all-linear"


def test_settings_that_contradict_each_other_are_a_problem() -> None:
    (problem,) = made(f"{AXOLOTL}batch_size: 3\n").problems
    assert "cannot be combined" in problem.what


def test_a_file_that_sets_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="has no setting that Headway needs") as refusal:
        made("method:\n  type: supervised\nsuffix:\n")
    assert refusal.value.have == "2 keys of OpenAI's fine-tuning"


def test_numbers_may_be_written_as_people_write_them() -> None:
    found = made(
        "stage: sft\ntemplate: qwen\nlora_rank: 8.0\nwarmup_steps: 1,000\nwarmup_ratio: 0\n"
    )
    assert values(found)["lora.lora_alpha"] == "16"
    assert values(found)["warmup_steps"] == "1,000"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["auto", "true", "lora", "epoch", "a,b", "", "1e-4", "0", "{", "adamw_8bit"]),
    st.text(max_size=5),
    st.lists(
        st.one_of(st.text(max_size=3), st.dictionaries(st.text(max_size=4), st.text())), max_size=2
    ),
    st.dictionaries(
        st.sampled_from(["path", "type", "lr", "beta", "x"]), st.text(max_size=3), max_size=2
    ),
)


@given(
    st.dictionaries(
        st.sampled_from(sorted({*meanings(), *spellings(), *DATA_NAMES})), VALUES, max_size=8
    ),
    st.sampled_from(sorted(TOOLS)),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_any_file_is_converted_or_told_and_what_is_written_is_read_back(
    keys: dict[str, object], tool: str
) -> None:
    Path("any.json").write_text(json.dumps(keys))
    try:
        found = convert(Path("any.json"), tool)
    except UsageError:
        return
    Path("ours.yaml").write_text(text_of_conversion(found, Path("any.json")))
    if not (found.settings or found.data):
        return  # nothing but problems
    file = read_settings(Path("ours.yaml"))
    assert file.data == found.data
    if not found.problems:
        resolve(file.given)


def test_a_file_of_no_known_tool_is_refused_with_their_names() -> None:
    with pytest.raises(UsageError, match="has no key of a known training tool") as refusal:
        made("apples: 1\npears: 2\n")
    assert refusal.value.have == "apples, pears"
    assert refusal.value.remedies[0].do == "headway convert theirs.yml --from axolotl"
    assert made("apples: 1\n", "axolotl").tool == "Axolotl"
