"""The most bf16 FLOP/s that this machine reaches in a square matrix product, as JSON."""

import json
import os
import sys
import time
from statistics import median

import torch

SIZES = {"cpu": (1024, 2048, 3072, 4096), "cuda": (4096, 8192, 16384), "dry": (256,)}
SECONDS_EACH = 1.0


def main() -> None:
    """The usual time of a product, for the size that does best; on the device that is typed."""
    kind = sys.argv[1] if sys.argv[1:] else "cpu"
    device = "cuda" if kind == "cuda" else "cpu"
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    best = 0.0
    for size in SIZES[kind]:
        a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
        out = torch.empty_like(a)
        took_s: list[float] = []
        while sum(took_s) < SECONDS_EACH:
            began_s = time.perf_counter()
            torch.mm(a, b, out=out)
            if device == "cuda":
                torch.cuda.synchronize()
            took_s.append(time.perf_counter() - began_s)
        best = max(best, 2 * size**3 / median(took_s))
    print(json.dumps({"flops": best}))


if __name__ == "__main__":
    main()
