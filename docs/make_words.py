"""Write the tables of docs/from-*.md: another tool's lines, and what becomes of each.

Usage:
    python docs/make_words.py            write the part between the markers of each page
    python docs/make_words.py --check    exit 1 when it is not what the code says
"""

import sys
from pathlib import Path

from marked_part import write_or_compare

from headway.config.conversion.conversion import answer_in
from headway.config.other_tools.files import TOOLS
from headway.config.other_tools.lookup import is_data
from headway.config.other_tools.meaning import Outcome
from headway.config.settings import printed_name, spellings

DOCS = Path(__file__).parent

# By page: the tool, and lines as its users write them.
PAGES: dict[str, tuple[str, list[str]]] = {
    "from-openai.md": (
        "openai",
        [
            "training_file: chats.jsonl",
            "validation_file: held-out.jsonl",
            "suffix: support",
            "hyperparameters.n_epochs: 3",
            "hyperparameters.n_epochs: auto",
            "hyperparameters.batch_size: 8",
            "hyperparameters.learning_rate_multiplier: 2",
            "seed: 7",
            "method.type: supervised",
            "method.type: dpo",
        ],
    ),
    "from-trainer.md": (
        "trl",
        [
            "model_name_or_path: models/small",
            "dataset_name: owner/name",
            "dataset_text_field: text",
            "per_device_train_batch_size: 8",
            "num_train_epochs: 3",
            "max_steps: -1",
            "learning_rate: 2e-5",
            "lr_scheduler_type: constant_with_warmup",
            "warmup_ratio: 0.03",
            "optim: adamw_torch_fused",
            "optim: adamw_8bit",
            "packing: true",
            "group_by_length: true",
            "completion_only_loss: true",
            "use_peft: true",
            "lora_target_modules: all-linear",
            "load_in_4bit: true",
            "bf16: true",
            "dtype: bfloat16",
            "fp16: true",
            "tf32: true",
            "attn_implementation: flash_attention_2",
            "gradient_checkpointing: true",
            "dataloader_num_workers: 4",
            "save_strategy: steps",
            "save_strategy: epoch",
            "eval_strategy: steps",
            "load_best_model_at_end: true",
            "resume_from_checkpoint: true",
            "report_to: wandb",
            "push_to_hub: true",
            "neftune_noise_alpha: 5",
            "deepspeed: zero2.json",
        ],
    ),
    "from-axolotl.md": (
        "axolotl",
        [
            "base_model: owner/name",
            "sequence_len: 2048",
            "excess_length_strategy: drop",
            "micro_batch_size: 2",
            "gradient_accumulation_steps: 4",
            "num_epochs: 3",
            "learning_rate: 0.0002",
            "lr_scheduler: cosine",
            "warmup_ratio: 0.1",
            "optimizer: adamw_torch_fused",
            "optimizer: adamw_bnb_8bit",
            "adapter: lora",
            "adapter: qlora",
            "load_in_8bit: true",
            "lora_r: 16",
            "lora_target_linear: true",
            "train_on_inputs: false",
            "val_set_size: 0.05",
            "sample_packing: true",
            "pad_to_sequence_len: true",
            "flash_attention: true",
            "bf16: auto",
            "gradient_checkpointing: true",
            "chat_template: tokenizer_default",
            "chat_template: llama3",
            "special_tokens.pad_token: <pad>",
            "dataset_prepared_path: prepared",
            "saves_per_epoch: 1",
            "evals_per_epoch: 4",
            "resume_from_checkpoint: true",
            "wandb_project: mine",
            "deepspeed: zero2.json",
            "rl: dpo",
        ],
    ),
    "from-llamafactory.md": (
        "llamafactory",
        [
            "model_name_or_path: owner/name",
            "stage: sft",
            "stage: pt",
            "stage: dpo",
            "do_train: true",
            "finetuning_type: lora",
            "finetuning_type: freeze",
            "lora_rank: 8",
            "lora_target: all",
            "quantization_bit: 4",
            "template: qwen",
            "template: alpaca",
            "cutoff_len: 2048",
            "max_samples: 1000",
            "train_on_prompt: true",
            "mask_history: true",
            "packing: true",
            "overwrite_cache: true",
            "preprocessing_num_workers: 16",
            "overwrite_output_dir: true",
            "per_device_train_batch_size: 1",
            "num_train_epochs: 3.0",
            "warmup_ratio: 0.1",
            "val_size: 0.1",
            "plot_loss: true",
            "flash_attn: fa2",
            "pure_bf16: true",
            "report_to: none",
            "adapter_name_or_path: saves/a",
        ],
    ),
}


def row(tool: str, line: str) -> str:
    """One row of a table: their line, ours or why there is none."""
    name, _, value = line.partition(": ")
    if is_data(name):
        return f"| `{line}` | `data: {value}` |"
    found = answer_in(TOOLS[tool], name, value)
    assert found, line
    ours = ", ".join(f"`{printed_name(spellings()[key])}: {said}`" for key, said in found.lines)
    match found.outcome:
        case Outcome.RENAMED:
            text = ours
        case Outcome.NOT_NEEDED:
            text = f"not needed: {found.because}"
        case Outcome.NOT_HERE:
            text = f"**not available**: {found.because}" + (f" ({ours})" if ours else "")
    return f"| `{line}` | {text} |"


def rows(tool: str, lines: list[str]) -> list[str]:
    """The lines of a table."""
    return [f"| {TOOLS[tool].name} | Headway |", "|---|---|", *(row(tool, line) for line in lines)]


def main(arguments: list[str]) -> int:
    """Write the tables, or compare them."""
    parts = {DOCS / name: rows(tool, lines) for name, (tool, lines) in PAGES.items()}
    return write_or_compare(parts, "words", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
