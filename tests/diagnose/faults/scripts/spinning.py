"""Threads of OpenMP that spin while they wait, more of them than there are cores."""

import os
import warnings

threads = 2 + len(os.sched_getaffinity(0))
os.environ.update(OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS=str(threads), GOMP_SPINCOUNT="infinite")
warnings.simplefilter("ignore")
import torch  # noqa: E402

rows = torch.ones(200_000)


def step() -> None:
    n = 0
    rows.exp()
    print("ready", flush=True)
    while True:
        n += 1
        if n % 100_000 == 0:
            rows.exp()


step()
