"""Free memory of the GPU that CUDA would use first, as nvidia-smi tells it."""

import os
import shutil
import subprocess

CUDA_BYTES = 500_000_000  # of its own, in each process that uses a GPU
_MIB = 1 << 20
_TIMEOUT_S = 3.0


def free_gpu_bytes(timeout_s: float = _TIMEOUT_S) -> int:
    """Free bytes, without what CUDA itself will take; 0 if nobody knows.

    Args:
        timeout_s: how long to wait for an answer: a driver may hang.
    """
    program = shutil.which("nvidia-smi")
    if not program:
        return 0
    query = ["--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [program, *query],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return _free_of_first(done.stdout.decode(errors="replace")) if done.returncode == 0 else 0


def _free_of_first(table: str) -> int:
    """The first GPU that CUDA_VISIBLE_DEVICES lets through, by number or by UUID."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line]
    for index, uuid, free in (row for row in rows if len(row) == 3):
        if first in ("", index) or uuid.startswith(first):
            return max(round(float(free) * _MIB) - CUDA_BYTES, 0) if free.isdecimal() else 0
    return 0
