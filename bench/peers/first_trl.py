"""Conversations with TRL as a person writes it: one script, from import to the first step.

Usage:
    python bench/peers/first_trl.py FOLDER RESULT
"""

import json
import sys
import time
from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

folder, result = Path(sys.argv[1]), Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())


class FirstStep(TrainerCallback):
    def on_step_end(self, *_, **__):
        result.write_text(json.dumps({"first_step": time.time()}))


trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_config(LlamaConfig(**plan["model"]["config"])).float(),
    args=SFTConfig(
        output_dir=str(result.parent),
        max_steps=1,
        per_device_train_batch_size=plan["steps"]["batch_size"],
        learning_rate=plan["learning"]["peak"],
        assistant_only_loss=True,
        gradient_checkpointing=False,
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=load_dataset("json", data_files=str(folder / "chats.jsonl"), split="train"),
    processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
    callbacks=[FirstStep()],
)
trainer.train()
