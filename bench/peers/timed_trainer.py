"""transformers' Trainer with a clock in it: the model, optimizer and schedule of a Headway plan."""

import json
from pathlib import Path
from typing import Any

import torch
from clock import Clock
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    set_seed,
)


class StepEnds(TrainerCallback):
    """Tells the clock of the end of each step: its update has reached the weights."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._clock.step_ended()


class Counting(Trainer):
    """Tells the clock what is learned from; for any trainer that is one of transformers'."""

    clock: Clock

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        # On a GPU, reading the number here would wait for all pending work.
        trained, positions = (inputs["labels"] != -100).sum(), inputs["input_ids"].numel()
        told = super().compute_loss(model, inputs, *arguments, **named)
        loss = told[0] if isinstance(told, tuple) else told
        self.clock.saw(trained, positions, loss.detach())
        return told


def load_plan(folder: Path) -> dict[str, Any]:
    """The plan of a work, and its threads and seed set."""
    plan = json.loads((folder / "plan.json").read_text())
    torch.set_num_threads(plan["machine"]["threads"])
    set_seed(plan["seed"])
    return plan


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that the plan counted with."""
    return PreTrainedTokenizerFast.from_pretrained(folder)


def new_model(plan: dict[str, Any], attention: str = "sdpa") -> PreTrainedModel:
    """The plan's shape with new weights in float32."""
    config = dict(plan["model"]["config"])
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), attn_implementation=attention
    ).float()


def learning(plan: dict[str, Any], steps: int) -> dict[str, Any]:
    """TrainingArguments of the plan's optimizer and schedule, and of nothing beside the steps."""
    asked = plan["learning"]
    return {
        "max_steps": steps,
        "learning_rate": asked["peak"],
        "lr_scheduler_type": asked["schedule"],
        "warmup_steps": min(asked["warmup_steps"], steps - 1),
        "weight_decay": asked["weight_decay"],
        "adam_beta1": asked["beta1"],
        "adam_beta2": asked["beta2"],
        "adam_epsilon": asked["epsilon"],
        "max_grad_norm": asked["max_grad_norm"],
        "optim": "adamw_torch_fused",
        "seed": plan["seed"],
        "use_cpu": plan["machine"]["device"] == "cpu",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": plan["machine"]["device"] != "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
