"""TRL's SFTTrainer on the conversations of a work, packed."""

import argparse
import json
from pathlib import Path

from clock import Clock
from datasets import Dataset
from timed_trainer import Counting, StepEnds, learning, load_plan, load_tokenizer, new_model
from trl import SFTConfig, SFTTrainer


class _Counting(Counting, SFTTrainer):
    """SFTTrainer with the clock."""


def main() -> None:
    """Train, write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="packed rows of a step")
    asked = parser.parse_args()
    plan = load_plan(asked.folder)
    rows = [json.loads(line) for line in (asked.folder / "rows.jsonl").read_text().splitlines()]
    clock = Clock()
    trainer = _Counting(
        model=new_model(plan),
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
    )
    trainer.clock = clock
    trainer.train()
    clock.write(asked.result)


if __name__ == "__main__":
    main()
