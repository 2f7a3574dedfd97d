"""Micro-batch trial: three sizes timed on the first step's rows, and the fastest kept."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from headway.base.errors import Finding
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.step import wait_for_device
from headway.training.trials.dry_run import compute_gradients, nothing_trained

_ROUNDS = 3
_GAIN = 1.03  # less is noise, and the planned size has the fewest micro-batches
_SMALLEST = 512  # tokens


def try_sizes(
    plan: Plan,
    settled: Settled,
    rows: Rows,
    order: RowOrder,
    forward: Forward,
    phase: Phases,
    now_s: Callable[[], float] = time.perf_counter,
) -> tuple[Settled, tuple[Finding, ...]]:
    """Compute the first step's gradients in micro-batches as planned, half and a quarter as large.

    Larger ones have fewer launches and waste less; smaller ones stay in a GPU's caches. Only on a
    GPU, and where nobody chose a size; a CPU keeps the planned one. Nothing is trained.

    Args:
        plan: of the run.
        settled: as settled so far; its micro-batch fits in memory.
        rows: of the job.
        order: of these rows.
        forward: computes as settled.
        phase: current phase.
        now_s: a clock.

    Returns:
        The settled values with the fastest micro-batch, and what was adjusted.
    """
    planned = settled.micro_batch_tokens
    is_chosen = plan.choice("micro_batch_tokens").origin != "auto"
    if plan.machine.device != "cuda" or is_chosen or planned < 2 * _SMALLEST:
        return settled, ()
    parameters = list(forward.weights.parameters())

    def cut(tokens: int) -> Sequence[MicroTensors]:
        return evaluation_micro_batches(
            rows,
            order.rows(1)[1],
            tokens,
            str(parameters[0].device),
            share=settled.share_prefixes,
            leaves=plan.steps.leaves,
        )

    def time_of(micros: Sequence[MicroTensors]) -> float:
        began_s = now_s()
        for micro in micros:
            compute_gradients(forward, micro)
        wait_for_device(parameters)
        return now_s() - began_s

    sizes = [size for size in (planned, planned // 2, planned // 4) if size >= _SMALLEST]
    with phase(Phase.TRYING_LARGEST_BATCH), nothing_trained(forward):
        fastest = find_fastest({size: partial(time_of, cut(size)) for size in sizes})
    if fastest == planned:
        return settled, ()
    what = f"micro-batches of {fastest:,} tokens: faster here than the planned {planned:,}"
    return replace(settled, micro_batch_tokens=fastest), (Finding("adjusted", what),)


def find_fastest(times: dict[int, Callable[[], float]]) -> int:
    """The size that takes the least time; the first one unless another clearly takes less.

    Args:
        times: of each size, what runs it once and returns the seconds.
    """
    for time_once in times.values():  # what is made at a first run counts for none of them
        time_once()
    rounds = [{size: once() for size, once in times.items()} for _ in range(_ROUNDS)]
    median = {size: statistics.median(one[size] for one in rounds) for size in times}
    first, fastest = next(iter(times)), min(median, key=lambda size: median[size])
    return fastest if median[first] > _GAIN * median[fastest] else first
