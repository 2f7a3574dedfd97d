"""transformers' Trainer on the rows of a work, as it comes or with what makes it faster."""

import argparse
import json
from pathlib import Path

from clock import Clock
from timed_trainer import Counting, StepEnds, learning, load_plan, load_tokenizer, new_model
from transformers import DataCollatorForSeq2Seq, TrainingArguments


def main() -> None:
    """Train, write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="rows of a step")
    parser.add_argument("--to-max-length", action="store_true", help="else: to the longest row")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    plan = load_plan(asked.folder)
    rows = [json.loads(line) for line in (asked.folder / "rows.jsonl").read_text().splitlines()]
    clock = Clock()
    trainer = Counting(
        model=new_model(plan),
        args=TrainingArguments(
            output_dir=str(asked.result.parent),
            per_device_train_batch_size=asked.batch,
            bf16=asked.bf16,
            torch_compile=asked.compile,
            train_sampling_strategy="group_by_length" if asked.group_by_length else "random",
            remove_unused_columns=False,
            **learning(plan, asked.steps),
        ),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(
            load_tokenizer(asked.folder / "tokenizer"),
            padding="max_length" if asked.to_max_length else "longest",
            max_length=plan["data"]["max_length"],
        ),
        callbacks=[StepEnds(clock)],
    )
    trainer.clock = clock
    trainer.train()
    clock.write(asked.result)


if __name__ == "__main__":
    main()
