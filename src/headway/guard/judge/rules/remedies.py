"""Remedies for training scripts: lines to type, with the names that the command used."""

import shlex
from pathlib import Path

from headway.base.addresses import hide_credentials
from headway.base.errors import Remedy
from headway.base.units import learning_rate
from headway.guard.judge.traces.case import MODEL_OPTIONS, Case

CLIP = Remedy("max_grad_norm=1.0", "limits what a single batch can do")
COUNT_TRAINABLE = Remedy(
    "print(sum(p.requires_grad for p in model.parameters()))",
    "in the script: how many tensors are trainable",
)
COUNT_OPTIMIZED = Remedy(
    "print(len({id(p) for g in optimizer.param_groups for p in g['params']}"
    " & {id(p) for p in model.parameters()}))",
    "in the script: how many tensors of the model the optimizer has",
)
SHOW_RATE = Remedy(
    "print([g['lr'] for g in optimizer.param_groups])", "in the script, once the schedule is made"
)
_COUNT_LABELS = Remedy(
    "print((next(iter(dataloader))['labels'] != -100).sum())",
    "in the script: how many labels of a batch are trained",
)
_COUNT_BATCHES = Remedy(
    "print(len(dataset), len(dataloader))", "in the script, before it trains: rows and batches"
)


def count_labels(case: Case) -> tuple[Remedy, ...]:
    """How to find out whether labels are left to learn from."""
    return (*_plan(case, "counts the trained tokens of every row"), _COUNT_LABELS)


def count_batches(case: Case) -> tuple[Remedy, ...]:
    """How to find out whether there is a batch at all."""
    return (*_plan(case, "counts rows, tokens and steps"), _COUNT_BATCHES)


def lower_rate(case: Case, gives: str) -> Remedy:
    """A third of the learning rate, as the command spells it."""
    asked = case.intent.number("learning_rate", "lr")
    seen = [rate for curve in case.curves for _, rate in curve.rates if rate > 0]
    name = "lr" if "lr" in case.intent.options else "learning_rate"
    rate = asked or max(seen, default=0.0)
    if not rate:
        return Remedy("a third of the learning rate", gives)
    flag = f"--{name} " if asked else f"{name}="
    return Remedy(f"{flag}{learning_rate(rate / 3)}", gives)


def train_from(case: Case, folder: Path, steps: int) -> tuple[Remedy, ...]:
    """How to train the data of a command from where a checkpoint stands.

    Args:
        case: of the command.
        folder: of the checkpoint.
        steps: that its data make; 0 if unknown.
    """
    shown = case.shown(folder)
    rows = f": all rows, {steps:,} steps" if steps else ": all rows"
    by_hand = Remedy(
        "trainer.train()", f"without resume_from_checkpoint, on the model of {shown}{rows}"
    )
    if not case.intent.data or not _can_be_trained(folder):
        return (by_hand,)
    line = f"headway train {_data(case)} --model {shlex.quote(shown)}"
    return Remedy(line, "trains each row once from there, and proves it"), by_hand


def _plan(case: Case, gives: str) -> tuple[Remedy, ...]:
    if not case.intent.data:
        return ()
    name = hide_credentials(case.intent.first(*MODEL_OPTIONS))
    of = f"--model {shlex.quote(name)}" if name else "--preset tiny"
    return (Remedy(f"headway plan {_data(case)} {of}", gives),)


def _data(case: Case) -> str:
    return " ".join(shlex.quote(name) for name in case.intent.data)


def _can_be_trained(folder: Path) -> bool:
    """Whether a folder has what `headway train --model` asks of it."""
    return all((folder / name).is_file() for name in ("config.json", "tokenizer.json"))
