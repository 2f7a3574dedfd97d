"""Conversations with transformers' Trainer as a person writes it: one script, from import to step.

Usage:
    python bench/peers/first_trainer.py FOLDER RESULT
"""

import json
import sys
import time
from pathlib import Path

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

folder, result = Path(sys.argv[1]), Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())


class FirstStep(TrainerCallback):
    def on_step_end(self, *_, **__):
        result.write_text(json.dumps({"first_step": time.time()}))


def tokenise(row):
    encoded = tokenizer.apply_chat_template(
        row["messages"], return_dict=True, return_assistant_tokens_mask=True
    )
    ids, masks = encoded["input_ids"], encoded["assistant_masks"]
    labels = [
        [token if m else -100 for token, m in zip(i, mask, strict=True)]
        for i, mask in zip(ids, masks, strict=True)
    ]
    return {"input_ids": ids, "labels": labels}


tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
data = load_dataset("json", data_files=str(folder / "chats.jsonl"), split="train")
data = data.map(tokenise, batched=True, remove_columns=data.column_names)
trainer = Trainer(
    model=AutoModelForCausalLM.from_config(LlamaConfig(**plan["model"]["config"])).float(),
    args=TrainingArguments(
        output_dir=str(result.parent),
        max_steps=1,
        per_device_train_batch_size=plan["steps"]["batch_size"],
        learning_rate=plan["learning"]["peak"],
        bf16=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=data,
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    callbacks=[FirstStep()],
)
trainer.train()
