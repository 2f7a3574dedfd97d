"""A training loop as nanoGPT and LitGPT have it, with the clock in it.

Both draw blocks from a file of ids at random places, clip the gradients and step AdamW once for
each batch; what differs between them is the model, its loss, and what the caller hands in.
"""

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from clock import Clock

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def arguments(description: str) -> argparse.Namespace:
    """The command line of both."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="rows of a step")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def load_plan(folder: Path) -> dict[str, Any]:
    """The plan of a work, and its threads and seed set."""
    plan = json.loads((folder / "plan.json").read_text())
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(plan["seed"])
    return plan


def train(
    plan: dict[str, Any],
    asked: argparse.Namespace,
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    loss_of: Loss,
    backward: Callable[[torch.Tensor], Any] = torch.Tensor.backward,
    rank: int = 0,
    processes: int = 1,
) -> None:
    """Train the steps that were asked for; write what happened.

    Args:
        plan: of the work.
        asked: the command line.
        optimizer: with its parameters.
        parameters: whose gradients are clipped.
        loss_of: ids and targets, [B, T] each, to the mean loss.
        backward: from the loss to the gradients.
        rank: of this process; the first one writes.
        processes: that share each step, each with as many rows.
    """
    length, learning = plan["data"]["max_length"], plan["learning"]
    tokens = numpy.memmap(asked.folder / "tokens.bin", dtype=numpy.uint16, mode="r")
    clock = Clock()
    for step in range(1, asked.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = _rate(learning, step, asked.steps)
        ids_BT, targets_BT = _batch(tokens, asked.batch // processes, length)
        loss = loss_of(ids_BT, targets_BT)
        backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, learning["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        trained, positions = targets_BT.numel() * processes, ids_BT.numel() * processes
        clock.saw(trained, positions, loss.detach())
        clock.step_ended()
    if rank == 0:
        clock.write(asked.result)


def _rate(learning: dict[str, Any], step: int, steps: int) -> float:
    """Warm-up, then a cosine down to nothing."""
    warmup = min(learning["warmup_steps"], steps - 1)
    if step <= warmup:
        return learning["peak"] * step / (warmup + 1)
    share = (step - warmup - 1) / (steps - warmup)
    return learning["peak"] * (1 + math.cos(math.pi * share)) / 2


def _batch(tokens: Any, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(tokens) - length, (rows,)).tolist()
    blocks = numpy.stack([tokens[at : at + length + 1].astype(numpy.int64) for at in starts])
    blocks_BT = torch.from_numpy(blocks)
    return blocks_BT[:, :-1].contiguous(), blocks_BT[:, 1:].contiguous()
