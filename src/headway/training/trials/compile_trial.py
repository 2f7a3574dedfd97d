"""Compile trial: gradients and speed with compiled norms and loss.

The plan says whether a run is long enough to pay for it. What is found holds for the whole run.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from headway.base.errors import Finding
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.trials.probes import longest_documents

_TOKENS = 512  # to try with: tenths of a second for a model that a CPU trains
_ROUNDS = 5
# How much gradients may differ, as a share of their norm. In bf16, compiled and uncompiled ones are
# 0.04 from those in fp32 and 0.02 from each other.
_MOST_APART, _MOST_APART_BF16 = 1e-3, 0.06


def try_compile(
    plan: Plan,
    settled: Settled,
    rows: Rows,
    order: RowOrder,
    forward: Forward,
    phase: Phases,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Finding | None:
    """Compile norms and loss, and keep them compiled if gradients agree and it is faster.

    If a person asked for it, speed does not matter.

    Args:
        plan: of the run.
        settled: as settled so far.
        rows: of the job.
        order: of these rows.
        forward: computes as settled; is left compiled or not.
        phase: current phase.
        clock: seconds.

    Returns:
        Why the run trains without compile, None if it compiles.
    """
    micro = _micro_batch(plan, settled, rows, order)
    with phase(Phase.COMPILING):
        try:
            plain = _gradients(forward, micro)
            with phase.pulse.waiting("the compiler"):
                forward.compile()
                compiled = _gradients(forward, micro)
            finding = _difference(forward, plain, compiled)
            if not finding and plan.choice("torch_compile").origin == "auto":
                finding = _slowdown(forward, micro, clock)
        except Exception as error:
            finding = _compiler_failed(error)
    forward.compile(finding is None)
    return finding


def compile_as_settled(
    plan: Plan, settled: Settled, rows: Rows, order: RowOrder, forward: Forward, phase: Phases
) -> Finding | None:
    """Compile if an earlier attempt did; why that failed, None if it did not."""
    finding = None
    if not settled.compiled:
        return finding
    with phase(Phase.COMPILING):
        try:
            with phase.pulse.waiting("the compiler"):
                forward.compile()
                _gradients(forward, _micro_batch(plan, settled, rows, order))
        except Exception as error:
            finding = _compiler_failed(error)
    forward.compile(finding is None)
    return finding


def _micro_batch(plan: Plan, settled: Settled, rows: Rows, order: RowOrder) -> MicroTensors:
    numbers, budget = order.rows(1)[1], settled.micro_batch_tokens
    micros = evaluation_micro_batches(rows, numbers, budget, plan.machine.device)
    return longest_documents(micros[0], _TOKENS)


def _compiler_failed(error: Exception) -> Finding:
    what = "training without compile: the compiler failed"
    return Finding("adjusted", what, have=_first_line(error))


def _difference(forward: Forward, plain: list[Tensor], compiled: list[Tensor]) -> Finding | None:
    """A finding if compiled gradients differ."""
    apart = _relative_distance(compiled, plain)
    is_bf16 = any(p.dtype == torch.bfloat16 for p in forward.model.parameters())
    most = _MOST_APART_BF16 if is_bf16 else _MOST_APART
    if apart <= most:
        return None
    return Finding(
        "adjusted",
        "training without compile: gradients differ from the uncompiled ones",
        have=f"gradients that differ by {apart:.2g} of their norm",
        need=f"at most {most:g}",
    )


def _slowdown(forward: Forward, micro: MicroTensors, clock: Callable[[], float]) -> Finding | None:
    """A finding if compiling does not save time: alternating rounds, the median of each."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_ROUNDS):
        for is_compiled, rounds in seconds.items():
            forward.compile(is_compiled)
            start_s = clock()
            _gradients(forward, micro)
            rounds.append(clock() - start_s)
    gain = statistics.median(seconds[False]) / statistics.median(seconds[True])
    if gain <= 1:
        what = f"training without compile: compiled steps are {gain:.2f} times as fast"
        return Finding("adjusted", what)
    return None


def _gradients(forward: Forward, micro: MicroTensors) -> list[Tensor]:
    """Gradients of the trainable tensors in eval mode; none are left on the model."""
    trained = [p for p in forward.weights.parameters() if p.requires_grad]
    was_training = forward.model.training
    forward.model.eval()
    try:
        num_trained = max(1, len(micro.targets_M))
        with forward.examined(micro, num_trained):
            forward.loss(micro, num_trained).backward()
        forward.collect_gradients()
        if micro.ids_N.is_cuda:
            torch.cuda.synchronize()
        return [p.grad for p in trained if p.grad is not None]
    finally:
        forward.model.train(was_training)
        forward.discard_gradients()
        for p in trained:
            p.grad = None


def _relative_distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The norm of the difference, relative to the norm of `theirs`."""
    squared_distance, squared_norm = (
        sum(float(t.square().sum()) for t in ts)
        for ts in ((a - b for a, b in zip(ours, theirs, strict=True)), theirs)
    )
    return (squared_distance / max(squared_norm, torch.finfo(torch.float32).tiny)) ** 0.5


def _first_line(error: Exception) -> str:
    """The first non-empty line of an error's text."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
