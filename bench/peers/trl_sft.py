"""TRL's SFTTrainer on the conversations of a work, packed."""

import argparse
import json
from pathlib import Path

import torch
from clock import Clock
from datasets import Dataset
from peft import LoraConfig
from timed_trainer import Counting, StepEnds, learning, load_plan, load_tokenizer, new_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from trl import SFTConfig, SFTTrainer


class _Counting(Counting, SFTTrainer):
    """SFTTrainer with the clock."""


_ADAPTERS = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _in_4bit(folder: Path) -> PreTrainedModel:
    """The model of a work, quantized by bitsandbytes while it is loaded."""
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(folder / "model", quantization_config=how)


def main() -> None:
    """Train, write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="packed rows of a step")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--in-4bit", action="store_true", help="adapters on a model in 4 bits")
    asked = parser.parse_args()
    plan = load_plan(asked.folder)
    rows = [json.loads(line) for line in (asked.folder / "rows.jsonl").read_text().splitlines()]
    clock = Clock()
    trainer = _Counting(
        model=_in_4bit(asked.folder) if asked.in_4bit else new_model(plan, asked.attention),
        args=SFTConfig(
            output_dir=str(asked.result.parent),
            per_device_train_batch_size=asked.batch,
            bf16=True,
            packing=True,
            packing_strategy="bfd",
            max_length=plan["data"]["max_length"],
            gradient_checkpointing=False,
            **learning(plan, asked.steps),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(asked.folder / "tokenizer"),
        callbacks=[StepEnds(clock)],
        peft_config=_ADAPTERS if asked.in_4bit else None,
    )
    trainer.clock = clock
    trainer.train()
    clock.write(asked.result)


if __name__ == "__main__":
    main()
