"""transformers' Trainer in float32 on the very steps of a Headway run, and plain losses beside.

Usage:
    python bench/peers/plain_trainer.py RUN RESULT

RUN is a finished run of Headway's. Trainer starts from the same weights and takes the same rows in
the same steps, each document as a sequence of its own, padded. Then transformers alone computes,
in float32, the held-out losses of what both became.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from timed_trainer import learning
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainingArguments

from headway.data.batching.rows import StoreRows, rows_of
from headway.data.order import Numbers, Order
from headway.data.survey.store import Store
from headway.runs.plan import Plan, load_plan
from headway.training.weights.initial_weights import starting_model

Document = tuple[list[int], list[int]]  # inputs, and the labels that transformers shifts
_AT_ONCE = 32  # held-out documents


class InTurn(Trainer):
    """Takes steps in the order they are given in."""

    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # pyright: ignore[reportArgumentType]


def documents(rows: StoreRows, numbers: Numbers) -> list[Document]:
    """The documents of rows; a target's label stands where the token itself stands."""
    found: list[Document] = []
    for number in numbers:
        for part in rows.segments(int(number)):
            ids = part.ids.tolist()
            trained = [True] * len(part) if part.trained is None else part.trained.tolist()
            labels = [t if yes else -100 for t, yes in zip(ids[1:], trained, strict=True)]
            found.append((ids, [-100, *labels]))
    return found


def padded(parts: list[Document]) -> dict[str, torch.Tensor]:
    """Documents as one batch, padded to the longest."""
    longest = max(len(ids) for ids, _ in parts)
    return {
        "input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in parts]),
        "labels": torch.tensor([own + [-100] * (longest - len(own)) for _, own in parts]),
        "attention_mask": torch.tensor(
            [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in parts]
        ),
    }


def trained_by_trainer(plan: Plan, steps: Iterable[list[Document]], folder: Path) -> Any:
    """The model after all steps."""
    model: Any = starting_model(plan)
    told = json.loads(plan.to_json())
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,  # a step of ours
        remove_unused_columns=False,
        **learning(told, plan.steps.num),
    )
    InTurn(
        model=model,
        args=arguments,
        train_dataset=list(steps),  # pyright: ignore[reportArgumentType]
        data_collator=lambda one: padded(one[0]),
    ).train()
    return model


def held_out_loss(model: PreTrainedModel, parts: list[Document]) -> float:
    """Nats per target, in float32."""
    model.float().eval()
    total, targets = 0.0, 0
    by_length = sorted(parts, key=lambda part: len(part[0]))
    with torch.no_grad():
        for at in range(0, len(parts), _AT_ONCE):
            batch = padded(by_length[at : at + _AT_ONCE])
            labels = batch.pop("labels")[:, 1:]
            logits = model(**batch).logits[:, :-1]
            total += float(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
            targets += int((labels != -100).sum())
    return total / targets


def main(run: Path, result: Path) -> None:
    """Train, compare, write."""
    plan = load_plan(run)
    torch.set_num_threads(plan.machine.threads)
    rows = rows_of(Store(Path(plan.data.store)), plan.data.max_length)
    held_out, batch = plan.data.rows.held_out, plan.steps.batch_size
    order = Order(plan.seed, rows.num_full, rows.has_short, held_out, batch)
    kept = documents(rows, order.held_out())
    before = held_out_loss(starting_model(plan), kept)  # pyright: ignore[reportArgumentType]
    steps = (documents(rows, order.rows(n)[1]) for n in range(1, plan.steps.num + 1))
    theirs = held_out_loss(trained_by_trainer(plan, steps, result.parent), kept)
    ours = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    told = {"before": before, "trainer": theirs, "headway": held_out_loss(ours, kept)}
    told["targets"] = sum(label != -100 for _, labels in kept for label in labels)
    result.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
