"""The few measurements a plan needs: how fast, how large, and whether packing is sound here."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from headway.base.machine import measured, remember
from headway.data.batches import MicroTensors
from headway.model.loss import Forward
from headway.trainer.costs import speed_key
from headway.trainer.plan import Plan

_PEAK_S = 0.1
_SAVE_S, _SAVE_BYTES_PER_S = 0.05, 200e6  # a careful guess, until a save has been measured


def documents_leak(forward: Forward, micro: MicroTensors, *, tolerance: float = 2e-3) -> bool:
    """Whether documents in one row change each other's losses on this very model.

    A layer that carries state along the row (linear attention, convolutions) does that whatever
    the attention function does; such a model runs its documents separately.

    Args:
        forward: a model with our attention in place.
        micro: some documents of the job's own data.
        tolerance: nats, in fp32; rounding stays far below, a leak far above.
    """
    two = longest_documents(micro)
    model, was_training, dtype = forward.model, forward.model.training, forward.compute_dtype
    model.eval()
    forward.compute_dtype = torch.float32
    with torch.no_grad():
        packed = forward.losses(two)
        forward.run_separately()
        alone = forward.losses(two)
    forward.run_separately(False)
    forward.compute_dtype = dtype
    model.train(was_training)
    return not float((packed - alone).abs().max()) <= tolerance


def longest_documents(micro: MicroTensors) -> MicroTensors:
    """The two longest documents of a micro-batch, as a micro-batch; a single one in two halves.

    Long ones, because in a document of a token or two every attention gives the same.
    """
    lengths = [t for t, count in micro.documents for _ in range(count)][-2:]
    if len(lengths) == 1 and lengths[0] > 1:
        lengths = [lengths[0] // 2, lengths[0] - lengths[0] // 2]
    begin = len(micro.ids_N) - sum(lengths)
    kept = micro.trained_at_M >= begin
    return MicroTensors(
        rows_R=micro.rows_R,
        ids_N=micro.ids_N[begin:],
        positions_N=torch.cat([torch.arange(t, device=micro.ids_N.device) for t in lengths]),
        trained_at_M=micro.trained_at_M[kept] - begin,
        targets_M=micro.targets_M[kept],
        documents=tuple((t, 1) for t in lengths),
    )


def peak_memory_bytes(device: str) -> int:
    """The most memory this process has held so far: of the device, or of the host for cpu."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def peak_flops(device: str, dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of a large matrix product on this machine: the best that any run has seen.

    Measured each time, for a tenth of a second: a first measurement may have met a busy machine.
    """
    what = f"peak|{device}|{dtype}|{threads}|torch {torch.__version__}"
    size = 1024
    a = torch.ones(size, size, device=device, dtype=dtype)
    best = known = measured(what) or 0.0
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < _PEAK_S:
        start_s = time.perf_counter()
        a @ a  # pyright: ignore[reportUnusedExpression]
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start_s))
    if best > known:
        remember(what, best)
    return best


def remember_speed(plan: Plan, step_s: Sequence[float], first_step_s: float | None) -> None:
    """Keep a run's speed for the next plan of this shape on this machine.

    Args:
        plan: of the run.
        step_s: seconds of each step of this attempt; the first one is not typical.
        first_step_s: from the start of the attempt to the end of its first step.
    """
    if len(step_s) < 5:
        return
    key = speed_key(plan.model, plan.steps, plan.data, plan.machine, str(torch.__version__))
    remember(key, plan.steps.tokens / typical(step_s[1:]))
    if first_step_s:
        remember(f"startup|{torch.__version__}", first_step_s - step_s[0])


def remember_process() -> None:
    """Keep how much memory the interpreter and its libraries take, for plans' peak memory."""
    remember(f"process|{torch.__version__}", peak_memory_bytes("cpu"))


def typical(values: Sequence[float]) -> float:
    """The median."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def foretell_rest(
    plan: Plan, steps_left: int, step_s: float, phase_seconds: Mapping[str, float]
) -> float:
    """Seconds from now to the receipt.

    Args:
        plan: what is still to be done.
        steps_left: of the job.
        step_s: of one of them.
        phase_seconds: what the phases so far took: the end loads, probes and evaluates again.
    """
    evaluating = phase_seconds.get("evaluating", 0.0)
    every = plan.looks.eval_steps
    evaluations = 1 + (steps_left // every if every else 0)
    num_saves = 1 + steps_left // plan.saves.every_steps
    return (
        steps_left * step_s
        + phase_seconds.get("loading the model", 0.0)
        + phase_seconds.get("probing", 0.0)
        + evaluations * evaluating
        + num_saves * foretell_save(plan)
    )


def foretell_save(plan: Plan) -> float:
    """Seconds that a save takes, before one has been measured."""
    return _SAVE_S + plan.saves.bytes_each / _SAVE_BYTES_PER_S
