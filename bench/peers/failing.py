"""A case of `failures_peers.py` with transformers' Trainer or TRL's SFTTrainer, as one writes it.

Usage:
    python bench/peers/failing.py trainer|trl OPTIONS.json

Beside the training there is one callback, which notes how many steps were finished.
"""

import json
import sys
from pathlib import Path

from datasets import IterableDataset, load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

kind, options = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
length = options["max_length"]


class Steps(TrainerCallback):
    def on_step_end(self, _, state, *__, **___):
        Path(options["steps"]).write_text(str(state.global_step))


def tokenise(row):
    if "input_ids" in row:
        return {"input_ids": row["input_ids"], "labels": row["labels"]}
    if "prompt" in row:
        prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        ids = [*prompt, *answer, tokenizer.eos_token_id]
        labels = [-100] * len(prompt) + ids[len(prompt) :]
    else:
        ids = [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]
        labels = list(ids)
    return {"input_ids": ids[:length], "labels": labels[:length]}


def lines():
    with Path(options["data"]).open() as file:
        for line in file:
            yield json.loads(line)


tokenizer = AutoTokenizer.from_pretrained(options["model"])
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(options["model"])
if options["stream"]:
    data = IterableDataset.from_generator(lines)
else:
    data = load_dataset("json", data_files=options["data"], split="train")
settings = {
    "output_dir": options["output_dir"],
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "dataloader_pin_memory": False,
    "logging_steps": 1,
    **options["args"],
}
if kind == "trl":
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(max_length=length, gradient_checkpointing=False, **settings),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Steps()],
    )
else:
    columns = data.column_names or ["text"]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=data.map(tokenise, remove_columns=columns),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[Steps()],
    )
trainer.train(resume_from_checkpoint=options["resume"])
trainer.save_model(options["final"])
