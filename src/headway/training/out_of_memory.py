"""Memory that runs out: the largest micro-batch is run first, and what fails runs in halves."""

import gc
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from headway.base.errors import Finding
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows, StoreRows
from headway.data.order import Numbers, RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.training.phases import Phases

SMALLEST = 16  # tokens of a micro-batch


def is_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator has no kind of error of its own.
    told = str(error).lower() if isinstance(error, RuntimeError) else ""
    return "allocate memory" in told or "out of memory" in told


def halved(plan: Plan, micro: MicroTensors | None, error: Exception) -> tuple[Plan, Finding]:
    """The plan with micro-batches half as large as one that did not fit.

    What comes of a step is the same but for rounding: its gradient is a sum, and the sum is cut
    otherwise. `--exact` allows no such change, and a single row cannot be cut.

    Args:
        plan: of the run.
        micro: that was being computed; None where it is too late to compute it again.
        error: what was raised.

    Raises:
        Exception: that error, where it is no lack of memory or smaller pieces are no way out.
    """
    tokens = min(plan.steps.micro_batch_tokens, len(micro.ids_N)) if micro else 0
    alone = micro is None or len(micro.rows_R) < 2
    if not is_memory(error) or alone or tokens // 2 < SMALLEST or plan.choice("exact").value:
        raise error
    finding = Finding(
        "adjusted",
        f"memory ran out: micro-batches of {tokens // 2:,} tokens from here on",
        have=f"micro-batches of {tokens:,} tokens",
    )
    gc.collect()  # what the failed pass left in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(plan, steps=replace(plan.steps, micro_batch_tokens=tokens // 2)), finding


def try_largest(
    plan: Plan, rows: Rows, order: RowOrder, forward: Forward, phase: Phases
) -> tuple[Plan, tuple[Finding, ...]]:
    """Run the largest micro-batch before step 1: whatever comes later takes no more memory.

    Beside it stand blocks as large as the optimizer's moments and the sums of leaves will be.
    Nothing is trained by it. Where memory is plenty on a processor, nothing is tried.

    Args:
        plan: as it was settled.
        rows: of the job.
        order: which of them come first.
        forward: computes as the plan says.
        phase: told of it.

    Returns:
        The plan with micro-batches that ran, and what was adjusted.
    """
    findings: list[Finding] = []
    while plan.memory.tight or plan.machine.device == "cuda":
        micro = largest(plan, rows, order)
        try:
            with phase(Phase.TRYING_LARGEST_BATCH):
                _run(plan, forward, micro)
            break
        except Exception as error:
            plan, finding = halved(plan, micro, error)
        findings.append(finding)
    return plan, tuple(findings)


def largest(plan: Plan, rows: Rows, order: RowOrder) -> MicroTensors:
    """As many of the longest rows as run at once; of a flow, of those that come first."""
    numbers: Numbers = order.rows(1)[1]
    if isinstance(rows, StoreRows):
        numbers = _fill(rows.lengths(), plan.steps.micro_batch_tokens)
    tokens, device = plan.steps.micro_batch_tokens, plan.machine.device
    each = evaluation_micro_batches(rows, numbers, tokens, device)
    return max(each, key=lambda micro: len(micro.ids_N))


def _fill(lengths: NDArray[np.int64], budget: int) -> Numbers:
    """Numbers of the longest row, the longest beside it that still fits, and so on."""
    longest_first = np.argsort(-lengths, kind="stable")
    falling = -lengths[longest_first]
    chosen, at, left = [longest_first[0]], 1, budget + falling[0]
    while left > 0:
        at = max(at, int(np.searchsorted(falling, -left)))
        if at == len(lengths):
            break
        chosen.append(longest_first[at])
        left += falling[at]
        at += 1
    return np.array(chosen, dtype=np.int64)


def _run(plan: Plan, forward: Forward, micro: MicroTensors) -> None:
    trained = [p for p in forward.weights.parameters() if p.requires_grad]
    sums = 2 + plan.steps.leaves.bit_length() - 1  # two moments, and a sum per level of the tree
    devices = [micro.ids_N.device] if micro.ids_N.is_cuda else []
    was_training = forward.model.training
    forward.model.train()
    try:
        with torch.random.fork_rng(devices=devices):
            _stand_ins = [torch.empty_like(p) for p in trained for _ in range(sums)]
            forward.loss(micro, max(1, len(micro.targets_M))).backward()
            forward.collect_gradients()
    finally:
        forward.model.train(was_training)
        forward.discard_gradients()
        for p in trained:
            p.grad = None
