"""Rank 1 does not reach the collective in which rank 0 waits."""

import os
import sys
import time
import warnings
from datetime import timedelta

warnings.simplefilter("ignore")
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402


def evaluate() -> None:
    print("ready", flush=True)
    while True:
        time.sleep(1)


def train_step() -> None:
    gradient = torch.ones(4)
    dist.all_reduce(gradient)


if __name__ == "__main__":
    rank, store = int(os.environ["RANK"]), sys.argv[1]
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(hours=1)
    )
    train_step()
    if rank == 1:
        evaluate()
    train_step()
