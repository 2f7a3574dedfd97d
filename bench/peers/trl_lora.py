"""Adapters on a pretrained model with TRL as a person writes it, from import to the saved adapters.

Usage:
    python bench/peers/trl_lora.py FOLDER RESULT --rows 4 --accumulate 6 [--packing]
"""

import argparse
from pathlib import Path

import torch
from clock import Clock
from datasets import load_dataset
from peft import LoraConfig
from timed_trainer import Counting, StepEnds, learning, load_plan
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

WRITTEN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
MARKED = (
    "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{% else %}"
    "{{message['content'] + '<|im_end|>'}}{% endif %}{{'\n'}}"
)


def marked(template: str) -> str:
    """The model's template, which writes the same and marks the answers as TRL wants them."""
    assert template.count(WRITTEN) == 1, "another template than the one this was written for"
    return template.replace(WRITTEN, MARKED)


class _Counting(Counting, SFTTrainer):
    """SFTTrainer with the clock."""


def main() -> None:
    """Train, write what happened, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--rows", type=int, required=True, help="of a micro-batch")
    parser.add_argument("--accumulate", type=int, required=True, help="micro-batches of a step")
    parser.add_argument("--packing", action="store_true")
    asked = parser.parse_args()
    plan = load_plan(asked.folder)
    model, lora = plan["model"]["path"], plan["model"]["lora"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = marked(tokenizer.chat_template)
    clock = Clock()
    trainer = _Counting(
        model=AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, attn_implementation="sdpa"
        ),
        args=SFTConfig(
            output_dir=str(asked.result.parent),
            per_device_train_batch_size=asked.rows,
            gradient_accumulation_steps=asked.accumulate,
            num_train_epochs=1,
            bf16=plan["machine"]["compute_dtype"] == "bfloat16",
            packing=asked.packing,
            max_length=plan["data"]["max_length"],
            assistant_only_loss=True,
            gradient_checkpointing=False,
            **learning(plan, plan["steps"]["num"]) | {"max_steps": -1},
        ),
        train_dataset=load_dataset(
            "json", data_files=str(asked.folder / "chats.jsonl"), split="train"
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[StepEnds(clock)],
    )
    trainer.clock = clock
    trainer.train()
    clock.write(asked.result)
    trainer.save_model(str(asked.result.parent / "adapters"))


if __name__ == "__main__":
    main()
