"""Evaluation: the mean loss of the probe rows and the held-out rows."""

import math
from collections.abc import Sequence

import torch

from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows
from headway.data.order import Numbers, RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured
from headway.runs.settled import Settled
from headway.training.phases import Phases


class Probes:
    """The rows whose losses judge a job, before its first update and after its last.

    Args:
        rows: of the job.
        order: says which rows come first, and which are held out.
        forward: the model.
        plan: says how many rows are probed.
        settled: says how they run.
        phase: current phase.

    Attributes:
        probe: rows of the first step.
        held_out: rows that are never trained on.
    """

    def __init__(
        self,
        rows: Rows,
        order: RowOrder,
        forward: Forward,
        plan: Plan,
        settled: Settled,
        phase: Phases,
    ) -> None:
        def batches_of(numbers: Numbers) -> tuple[MicroTensors, ...]:
            tokens, device = settled.micro_batch_tokens, plan.machine.device
            if not len(numbers):
                return ()
            share = settled.share_prefixes
            return evaluation_micro_batches(rows, numbers, tokens, device, share=share)

        self.probe = batches_of(probe_rows(order, plan))
        self.held_out = batches_of(order.held_out())
        self._forward = forward
        self._phase = phase

    def measure(self) -> Losses:
        """The losses of the current weights."""
        with self._phase(Phase.PROBING, total=len(self.probe), unit="batches"):
            probe = measure_loss(self._forward, self.probe, self._phase.pulse)
        return Losses(probe, self.measure_held_out())

    def measure_held_out(self) -> Measured | None:
        """The loss of the held-out rows, None if there are none."""
        if not self.held_out:
            return None
        with self._phase(Phase.EVALUATING, total=len(self.held_out), unit="batches"):
            return measure_loss(self._forward, self.held_out, self._phase.pulse)


def probe_rows(order: RowOrder, plan: Plan) -> Numbers:
    """Row numbers of the first step, as many as the plan probes."""
    return order.rows(1)[1][: plan.evaluation.probe_rows]


def measure_loss(forward: Forward, micros: Sequence[MicroTensors], pulse: Pulse) -> Measured:
    """The mean loss over rows in eval mode, summed batch by batch.

    The model's mode and all random states are left as they were.
    """
    model = forward.model
    was_training = model.training
    model.eval()
    total = squares = 0.0
    num = rows = 0
    try:
        with torch.no_grad():
            for done, micro in enumerate(micros):
                losses = forward.losses(micro).double()
                total += float(losses.sum())
                squares += float((losses * losses).sum())
                num += len(losses)
                rows += len(micro.rows_R)
                pulse.progress(done + 1)
    finally:
        model.train(was_training)
    mean = total / num
    variance = max(squares / num - mean * mean, 0.0)
    return Measured(mean, math.sqrt(variance / num), rows)
