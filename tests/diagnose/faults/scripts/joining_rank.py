"""Rank 0 of 2 joins a process group; the other never comes."""

import sys
import warnings
from datetime import timedelta

warnings.simplefilter("ignore")
import torch.distributed as dist  # noqa: E402


def set_up() -> None:
    print("ready", flush=True)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{sys.argv[1]}",
        rank=0,
        world_size=2,
        timeout=timedelta(hours=1),
    )


set_up()
