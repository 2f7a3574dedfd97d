"""transformers' Trainer with a clock in it: the model, optimizer and schedule of a Headway plan."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

Row = dict[str, list[int]]


class _Clock(TrainerCallback):
    """Notes when each step ended: its update has reached the weights."""

    def __init__(self) -> None:
        self.ends: list[float] = []  # seconds since 1970

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.time())


class _Counting(Trainer):
    """Notes of each step what it learned from and its loss."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.answers: list[int] = []
        self.positions: list[int] = []
        self.losses: list[torch.Tensor] = []

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        self.answers.append(int((inputs["labels"] != -100).sum()))
        self.positions.append(inputs["input_ids"].numel())
        loss = super().compute_loss(model, inputs, *arguments, **named)
        self.losses.append(loss.detach())
        return loss


def arguments(*choices: str) -> argparse.Namespace:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser()
    for name in ("plan", "tokenizer", "data", "result"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--steps", type=int)
    if choices:
        parser.add_argument("--padding", choices=choices, required=True)
    return parser.parse_args()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that the plan counted with."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def train(
    plan: dict[str, Any], rows: list[Row], collate: Callable[..., Any], steps: int, result: Path
) -> None:
    """Train some steps of the plan; write what happened as JSON.

    Args:
        plan: plan.json of Headway.
        rows: input_ids and labels, not padded.
        collate: rows to a batch.
        steps: how many.
        result: the file that is written.
    """
    torch.set_num_threads(plan["machine"]["threads"])
    set_seed(plan["seed"])
    config = dict(plan["model"]["config"])
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), attn_implementation="sdpa"
    )
    clock = _Clock()
    trainer = _Counting(
        model=model.float(),
        args=_settings(plan, steps, result.parent),
        train_dataset=rows,
        data_collator=collate,
        callbacks=[clock],
    )
    trainer.train()
    told = {
        "ends": clock.ends,
        "answers": trainer.answers,
        "positions": trainer.positions,
        "losses": [float(loss) for loss in trainer.losses],
    }
    result.write_text(json.dumps(told))


def _settings(plan: dict[str, Any], steps: int, folder: Path) -> TrainingArguments:
    learning = plan["learning"]
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=plan["steps"]["batch_size"],
        learning_rate=learning["peak"],
        lr_scheduler_type=learning["schedule"],
        warmup_steps=min(learning["warmup_steps"], steps - 1),
        weight_decay=learning["weight_decay"],
        adam_beta1=learning["beta1"],
        adam_beta2=learning["beta2"],
        adam_epsilon=learning["epsilon"],
        max_grad_norm=learning["max_grad_norm"],
        optim="adamw_torch_fused",
        seed=plan["seed"],
        use_cpu=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
    )
