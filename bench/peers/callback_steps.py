"""A Trainer with HeadwayCallback and without it: how long its steps take.

Usage:
    python bench/peers/callback_steps.py RESULT --preset P --steps N --batch B [--callback]
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from headway import HeadwayCallback
from headway.model import presets

LENGTH = 256


class Ends(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def collate(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Full rows, all of them trained."""
    ids = torch.tensor(rows)
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}


def main() -> None:
    """Train, and write how long each step took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--callback", action="store_true")
    asked = parser.parse_args()
    draw = random.Random(0)
    num = asked.steps * asked.batch
    vocabulary = presets.vocab_size(asked.preset)
    rows = [[draw.randrange(3, vocabulary) for _ in range(LENGTH)] for _ in range(num)]
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = presets.config(asked.preset, vocabulary, LENGTH, special)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config)
    )
    folder, ends = asked.result.parent, Ends()
    watching = HeadwayCallback(output_dir=folder / "runs", run_name="r", quiet=True)
    args = TrainingArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=asked.batch,
        max_steps=asked.steps,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    callbacks: list[TrainerCallback] = [*([watching] if asked.callback else []), ends]
    Trainer(model, args, data_collator=collate, train_dataset=rows, callbacks=callbacks).train()
    told: dict[str, Any] = {
        "steps": [b - a for a, b in zip(ends.ends, ends.ends[1:], strict=False)]
    }
    if watching.receipt is not None:
        seen = watching.receipt.time
        told["own share"] = seen.watching_steps / seen.steps
        told["own seconds"] = seen.watching
    asked.result.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
