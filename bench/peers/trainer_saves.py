"""Saves of transformers' Trainer: the shape and the saves of a Headway plan, with a clock."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from timed_trainer import load_tokenizer, new_model
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed


class _Clock(TrainerCallback):
    """Notes what passes between the end of a step and the end of the save that follows it."""

    def __init__(self) -> None:
        self.stalls: list[float] = []
        self.steps: list[float] = []
        self._at = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._at = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter() - self._at)
        self._at = time.perf_counter()

    def on_save(self, *_: Any, **__: Any) -> None:
        self.stalls.append(time.perf_counter() - self._at)


def main(plan_file: Path, tokenizer: Path, folder: Path) -> None:
    """Train the plan's steps on tokens drawn by chance, save as it does, write the stalls."""
    plan = json.loads(plan_file.read_text())
    torch.set_num_threads(plan["machine"]["threads"])
    set_seed(plan["seed"])
    saves, steps = plan["saves"], plan["steps"]
    length, batch = plan["data"]["max_length"], steps["batch_size"]
    ids = torch.randint(plan["model"]["vocab_size"], (steps["num"] * batch, length))
    clock = _Clock()
    settings = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps["num"],
        per_device_train_batch_size=batch,
        learning_rate=plan["learning"]["peak"],
        optim="adamw_torch_fused",
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="steps",
        save_steps=saves["every_steps"],
        save_total_limit=saves["keep"],
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=new_model(plan),
        args=settings,
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        processing_class=load_tokenizer(tokenizer),
        callbacks=[clock],
    )
    trainer.train()
    newest = folder / f"checkpoint-{steps['num']}"
    written = sum(path.stat().st_size for path in newest.iterdir())
    told = {"stalls": clock.stalls, "steps": clock.steps, "bytes": written}
    (folder / "result.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
