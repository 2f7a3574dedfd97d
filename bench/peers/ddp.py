"""transformers' model in DistributedDataParallel, started by torchrun, with the clock in it.

Usage:
    torchrun --standalone --nproc-per-node N bench/peers/ddp.py FOLDER RESULT --steps S --batch B
"""

from contextlib import nullcontext
from typing import Any

import gpt_loop
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from timed_trainer import new_model
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    """Train, write what happened."""
    asked = gpt_loop.arguments(__doc__ or "")
    plan = gpt_loop.load_plan(asked.folder)
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    assert asked.batch % processes == 0, "every process has as many rows"
    model: Any = new_model(plan)  # the same in all: the seed is the plan's
    parallel = DistributedDataParallel(torch.compile(model) if asked.compile else model)
    torch.manual_seed(plan["seed"] + rank)  # each draws rows of its own
    learning = plan["learning"]
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        learning["peak"],
        (learning["beta1"], learning["beta2"]),
        learning["epsilon"],
        learning["weight_decay"],
        fused=True,
    )
    context = torch.autocast("cpu", torch.bfloat16) if asked.bf16 else nullcontext()

    def loss_of(ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        with context:
            logits_BTV = parallel(input_ids=ids_BT, use_cache=False).logits
        return F.cross_entropy(logits_BTV.float().flatten(0, 1), targets_BT.flatten())

    gpt_loop.train(plan, asked, optimizer, parameters, loss_of, rank=rank, processes=processes)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
