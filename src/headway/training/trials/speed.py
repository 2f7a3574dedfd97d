"""Speed measurements: bf16 against fp32, peak FLOP/s, values remembered for planning."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from headway.base.host.peak_memory import peak_process_bytes
from headway.base.machine import measured, remember, this_machine
from headway.runs.measurements import (
    LEAST_STEPS,
    bf16_gain,
    peak_key,
    process_key,
    speed_key,
    startup_key,
)
from headway.runs.plan import Plan
from headway.runs.settled import Settled

_MEASURE_S = 0.1
_LEAST_ROUNDS = 5
_WORTH_S = 10.0  # a run of less does not measure what is known
_SIZE = 512  # rows and columns of a matrix product that takes about a millisecond


def bf16_is_faster(threads: int) -> bool:
    """Whether this processor multiplies bf16 much faster than fp32.

    Small products, alternating, the best of each: other load slows both down.
    """
    best = _rates([torch.ones(_SIZE, _SIZE, dtype=d) for d in (torch.bfloat16, torch.float32)])
    for dtype, rate in best.items():
        _keep_best(peak_key("cpu", str(dtype), threads, str(torch.__version__)), rate)
    return best[torch.bfloat16] > bf16_gain(this_machine()) * best[torch.float32]


def _rates(squares: Sequence[Tensor]) -> dict[torch.dtype, float]:
    """FLOP/s of each matrix's product with itself, the best of several rounds, by dtype.

    The first product of a kind is not measured: it loads and compiles code.
    """
    for a in squares:
        _seconds(a)
    best = {a.dtype: 0.0 for a in squares}
    rounds, start_s = 0, time.perf_counter()
    while rounds < _LEAST_ROUNDS or time.perf_counter() - start_s < _MEASURE_S:
        rounds += 1
        for a in squares:
            best[a.dtype] = max(best[a.dtype], 2 * len(a) ** 3 / _seconds(a))
    return best


def _seconds(square: Tensor) -> float:
    start_s = time.perf_counter()
    square @ square  # pyright: ignore[reportUnusedExpression]
    if square.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def _keep_best(what: str, rate: float) -> None:
    if rate > (measured(what) or 0.0):
        remember(what, rate)


def peak_memory_bytes(device: str) -> int:
    """Peak memory of this process so far: on the device, or on the host for cpu.

    Memory that several workers share is left out.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_process_bytes()


def peak_flops(device: str, dtype: torch.dtype, threads: int, began_s: float) -> float:
    """FLOP/s of a large matrix product on this machine: the best that any run has measured.

    Measured each time, for some tenths of a second: the machine may have been busy the first time.
    A run that itself took no longer than seconds relies on the runs before it.

    Args:
        device: to measure.
        dtype: of the product.
        threads: that compute it.
        began_s: CLOCK_MONOTONIC at the start of the run.
    """
    what = peak_key(device, str(dtype), threads, str(torch.__version__))
    if time.monotonic() - began_s < _WORTH_S and (known := measured(what)):
        return known
    size = 8192 if device == "cuda" else 1024  # a GPU is not busy with less
    square = torch.ones(size, size, device=device, dtype=dtype)
    best = max(measured(what) or 0.0, _rates([square])[dtype])
    _keep_best(what, best)
    return best


def remember_speed(
    plan: Plan, settled: Settled, step_s: Sequence[float], first_step_s: float | None
) -> None:
    """Remember a run's speed for the next plan of this shape on this machine.

    Args:
        plan: of the run.
        settled: of the run.
        step_s: seconds of each step of this attempt; the first one is slower than the others.
        first_step_s: from the start of the attempt to the end of its first step.
    """
    if len(step_s) < LEAST_STEPS:
        return
    key = speed_key(
        plan.model,
        plan.steps,
        plan.data,
        plan.machine.device,
        settled.compute_dtype,
        plan.machine.threads,
        str(torch.__version__),
        settled.workers,
    )
    remember(key, plan.steps.tokens / statistics.median(step_s[1:]))
    if first_step_s and not plan.machine.compiled:  # most starts compile nothing
        remember(startup_key(str(torch.__version__)), first_step_s - step_s[0])


def remember_process() -> None:
    """Remember how much memory the interpreter and its libraries take, for plans' peak memory."""
    remember(process_key(str(torch.__version__)), peak_process_bytes())
