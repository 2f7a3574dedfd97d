"""nvidia-smi: what the NVIDIA driver says about its GPUs, asked with a time limit."""

import os
import shutil
import subprocess

CUDA_BYTES = 500_000_000  # of its own, in each process that uses a GPU
_MIB = 1 << 20
_TIMEOUT_S = 3.0


def free_gpu_bytes(timeout_s: float = _TIMEOUT_S) -> int:
    """Free bytes of the GPU that CUDA would use first, without what CUDA itself will take.

    0 if the driver does not say.

    Args:
        timeout_s: how long to wait for an answer.
    """
    return _free_of_first(ask_nvidia_smi("--query-gpu=index,uuid,memory.free", timeout_s))


def ask_nvidia_smi(query: str, timeout_s: float) -> str:
    """The lines of a table, cells separated by commas; "" if there is no driver or no answer.

    Args:
        query: which table, and its columns.
        timeout_s: how long to wait: a driver may hang.
    """
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _free_of_first(table: str) -> int:
    """The first GPU that CUDA_VISIBLE_DEVICES lets through, by number or by UUID."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line]
    for index, uuid, free in (row for row in rows if len(row) == 3):
        if first in ("", index) or uuid.startswith(first):
            return max(round(float(free) * _MIB) - CUDA_BYTES, 0) if free.isdecimal() else 0
    return 0
