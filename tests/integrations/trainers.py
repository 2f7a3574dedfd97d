"""Tiny models, rows and Trainers for the tests of the callback: nothing is downloaded."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

VOCABULARY = 64
Row = dict[str, list[int]]


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def rows(num: int, *, length: int = 8, seed: int = 0, masked: bool = False) -> list[Row]:
    """Rows that are all different, of `length` to `length` + 4 tokens."""
    draw = random.Random(seed)
    made: list[Row] = []
    for _ in range(num):
        ids = [draw.randrange(3, VOCABULARY) for _ in range(length + draw.randrange(5))]
        made.append({"input_ids": ids, "labels": [-100] * len(ids) if masked else list(ids)})
    return made


def collate(batch: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Rows padded on the right to the longest."""
    longest = max(len(row["input_ids"]) for row in batch)

    def padded(values: list[int], fill: int) -> list[int]:
        return values + [fill] * (longest - len(values))

    return {
        "input_ids": torch.tensor([padded(row["input_ids"], 0) for row in batch]),
        "labels": torch.tensor([padded(row["labels"], -100) for row in batch]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in batch]),
    }


def make_trainer(folder: Path, callback: object, data: Any, **given: Any) -> Trainer:
    """A Trainer; what is not its own argument is one of TrainingArguments."""
    own = ("model", "optimizers", "eval_dataset", "compute_metrics", "data_collator")
    named: dict[str, Any] = {"model": tiny_model(), "data_collator": collate}
    named |= {name: given.pop(name) for name in own if name in given}
    kind = given.pop("kind", Trainer)
    defaults: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 7,
    }
    args = TrainingArguments(**defaults | given)
    return kind(args=args, train_dataset=data, callbacks=[callback] if callback else [], **named)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
