"""Evaluation: the mean loss of the probe rows and the held-out rows.

Several workers evaluate neighboring micro-batches each. The sums of every micro-batch are added up
one by one in one order, so that the number does not depend on who computed them.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.replay import split_replayed
from headway.data.batching.rows import Rows
from headway.data.order import Numbers, RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.receipt import Measured
from headway.runs.settled import Settled
from headway.training.distributed.messages import EvaluatedRows, LossSums
from headway.training.phases import Phases

_READ_S = 1.0  # of a GPU
_PHASES = {EvaluatedRows.PROBE: Phase.PROBING, EvaluatedRows.HELD_OUT: Phase.EVALUATING}


class Probes:
    """The rows whose losses judge a job, before its first update and after its last.

    Args:
        rows: of the job.
        order: says which rows come first, and which are held out.
        forward: the model.
        plan: says how many rows are probed.
        settled: says how they run.
        phase: current phase.
        own: the leaves that this worker evaluates, given their number.

    Attributes:
        micro_batch_tokens: that the rows are cut into.
        has_held_out: there are held-out rows.
    """

    def __init__(
        self,
        rows: Rows,
        order: RowOrder,
        forward: Forward,
        plan: Plan,
        settled: Settled,
        phase: Phases,
        own: Callable[[int], range] = range,
    ) -> None:
        def batches_of(numbers: Numbers) -> tuple[MicroTensors, ...]:
            if not len(numbers):
                return ()
            return evaluation_micro_batches(
                rows,
                numbers,
                self.micro_batch_tokens,
                plan.machine.device,
                share=settled.share_prefixes,
                leaves=plan.steps.leaves,
                own=own,
            )

        self.micro_batch_tokens = settled.micro_batch_tokens
        held_out = order.held_out()
        self.has_held_out = len(held_out) > 0
        self._own = {
            EvaluatedRows.PROBE: batches_of(probe_rows(order, plan)),
            EvaluatedRows.HELD_OUT: batches_of(held_out),
        }
        self._forward = forward
        self._phase = phase

    def batches(self, rows: EvaluatedRows) -> tuple[MicroTensors, ...]:
        """The micro-batches that this worker evaluates."""
        return self._own[rows]

    @contextmanager
    def phase(self, rows: EvaluatedRows, num: int | None = None) -> Generator[None]:
        """The phase of an evaluation, this worker's share and the wait for others included.

        Args:
            rows: which ones.
            num: micro-batches that this worker runs; None for those of `batches`.
        """
        total = len(self._own[rows]) if num is None else num
        with self._phase(_PHASES[rows], total=total, unit="batches"):
            yield

    def sums(
        self, rows: EvaluatedRows, on_batch: Callable[[], None] = lambda: None
    ) -> tuple[LossSums, ...]:
        """The losses of this worker's share with the current weights.

        Args:
            rows: which ones.
            on_batch: called after each micro-batch; may end the evaluation with an exception.
        """
        return sum_losses(self._forward, self._own[rows], self._phase.pulse, on_batch)


def probe_rows(order: RowOrder, plan: Plan) -> Numbers:
    """Numbers of the first step's own rows, as many as the plan probes."""
    own, _ = split_replayed(order.rows(1)[1])
    return own[: plan.evaluation.probe_rows]


def measure_loss(forward: Forward, micros: Sequence[MicroTensors], pulse: Pulse) -> Measured:
    """The mean loss over rows in eval mode, of a worker that is alone."""
    return mean_of(sum_losses(forward, micros, pulse))


def sum_losses(
    forward: Forward,
    micros: Sequence[MicroTensors],
    pulse: Pulse,
    on_batch: Callable[[], None] = lambda: None,
    *,
    clock: Callable[[], float] = time.monotonic,
    read_s: float | None = None,
) -> tuple[LossSums, ...]:
    """The losses of each micro-batch in eval mode, summed.

    The model's mode and all random states are left as they were. Progress is what has been read: a
    GPU, which computes while more is queued, is read once a second.

    Args:
        forward: the model.
        micros: the micro-batches.
        pulse: shows progress.
        on_batch: called after each micro-batch; may end the evaluation with an exception.
        clock: seconds.
        read_s: seconds between two reads; if not given, what fits the device.
    """
    model = forward.model
    was_training = model.training
    model.eval()
    queued, read = list[Tensor](), list[list[float]]()
    if read_s is None:
        read_s = _READ_S if micros and micros[0].ids_N.is_cuda else 0.0
    last_s = clock()
    try:
        with torch.no_grad():
            for micro in micros:
                losses = forward.losses(micro).double()
                queued.append(torch.stack((losses.sum(), (losses * losses).sum())))
                is_last = len(read) + len(queued) == len(micros)
                if is_last or clock() - last_s >= read_s:
                    read += torch.stack(queued).tolist()
                    queued, last_s = [], clock()
                    pulse.progress(len(read))
                on_batch()
    finally:
        model.train(was_training)
    return tuple(
        LossSums(total, squares, len(micro.targets_M), len(micro.rows_R))
        for (total, squares), micro in zip(read, micros, strict=True)
    )


def mean_of(sums: Sequence[LossSums]) -> Measured:
    """The mean of all losses, its standard error and the number of rows.

    Args:
        sums: of all micro-batches, always in the same order: it decides the last bits.
    """
    total = squares = 0.0
    num = rows = 0
    for one in sums:
        total, squares = total + one.losses, squares + one.squares
        num, rows = num + one.num, rows + one.rows
    mean = total / num
    variance = max(squares / num - mean * mean, 0.0)
    return Measured(mean, math.sqrt(variance / num), rows)
