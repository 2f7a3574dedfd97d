"""Largest micro-batch trial: peak memory measured before step 1."""

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
from headway.runs.settled import Settled
from headway.training.distributed.team import ALONE, LedTeam
from headway.training.failures import halve_micro_batch
from headway.training.phases import Phases
from headway.training.trials.dry_run import compute_gradients, nothing_trained


def try_largest_batch(
    plan: Plan,
    settled: Settled,
    rows: Rows,
    order: RowOrder,
    forward: Forward,
    phase: Phases,
    team: LedTeam = ALONE,
) -> tuple[Settled, tuple[Finding, ...]]:
    """Run the largest micro-batch in all workers at once, and halve it until it fits in each.

    Blocks as large as the optimizer's moments and the leaf sums are allocated next to it. Nothing
    is trained. On a CPU with plenty of memory, nothing is tried.

    Args:
        plan: of the run.
        settled: as settled so far.
        rows: of the job.
        order: of these rows.
        forward: computes as settled.
        phase: current phase.
        team: all workers of the run.

    Returns:
        The settled values with a micro-batch that fits, and what was adjusted.
    """
    findings: list[Finding] = []
    while plan.memory.tight or plan.machine.device == "cuda":
        micro = largest(plan, settled, rows, order)
        team.ask_to_try(settled.micro_batch_tokens)
        try:
            with phase(Phase.TRYING_LARGEST_BATCH):
                run_largest(plan, forward, micro)
                team.collect(0, ())
            break
        except Exception as error:
            settled, finding = halve_micro_batch(plan, settled, micro, error)
        findings.append(finding)
    return settled, tuple(findings)


def largest(plan: Plan, settled: Settled, rows: Rows, order: RowOrder) -> MicroTensors:
    """As many of the longest rows as fit one micro-batch; of a stream, rows of the first step."""
    numbers: Numbers = order.rows(1)[1]
    if isinstance(own := rows.own, StoreRows):
        numbers = _fill(own.lengths(), settled.micro_batch_tokens)
    tokens, device = settled.micro_batch_tokens, plan.machine.device
    each = evaluation_micro_batches(rows, numbers, tokens, device)
    return max(each, key=lambda micro: len(micro.ids_N))


def _fill(lengths: NDArray[np.int64], budget: int) -> Numbers:
    """Numbers of the longest row, the longest that still fits next to it, and so on."""
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


def run_largest(plan: Plan, forward: Forward, micro: MicroTensors) -> None:
    """Run a micro-batch next to blocks of memory as large as those of a step.

    Raises:
        Exception: whatever the model raised, out of memory or not.
    """
    trained = [p for p in forward.weights.parameters() if p.requires_grad]
    sums = 2 + plan.steps.leaves.bit_length() - 1  # two moments, and a sum per level of the tree
    with nothing_trained(forward):
        _stand_ins = [torch.empty_like(p) for p in trained for _ in range(sums)]
        compute_gradients(forward, micro)
