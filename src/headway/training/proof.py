"""Did it learn: probes, gradient coverage, weights moved."""

import math
from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches, to_tensors
from headway.data.batching.packing import largest_shared_prefix, lay_out
from headway.data.batching.rows import Rows
from headway.data.batching.shared_prefixes import PrefixGroup
from headway.data.order import Numbers, RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.runs.receipt import MOST_NAMED, Losses, Measured, TensorAudit
from headway.training.phases import Phases

_SEARCHED = 16  # steps


class Probes:
    """The rows by whose losses a job is judged, before its first update and after its last.

    Args:
        rows: of the job.
        order: which of them come first, and which are held out.
        forward: the model.
        plan: how many rows, and in what pieces they run, as it was settled.
        phase: told what is being measured.
    """

    def __init__(
        self, rows: Rows, order: RowOrder, forward: Forward, plan: Plan, phase: Phases
    ) -> None:
        def look_at(numbers: Numbers) -> tuple[MicroTensors, ...]:
            tokens, device = plan.steps.micro_batch_tokens, plan.machine.device
            if not len(numbers):
                return ()
            return evaluation_micro_batches(rows, numbers, tokens, device, share=plan.shares)

        self.probe = look_at(_of_first_batch(order, plan))
        self.held_out = look_at(order.held_out())  # never trained on
        self._forward = forward
        self._phase = phase

    def measure(self) -> Losses:
        """Both, as they are now."""
        with self._phase(Phase.PROBING, total=len(self.probe), unit="batches"):
            probe = measure_loss(self._forward, self.probe, self._phase.pulse)
        return Losses(probe, self.measure_held_out())

    def measure_held_out(self) -> Measured | None:
        """The held-out rows alone; None where there are none."""
        if not self.held_out:
            return None
        with self._phase(Phase.EVALUATING, total=len(self.held_out), unit="batches"):
            return measure_loss(self._forward, self.held_out, self._phase.pulse)


def first_rows(
    rows: Rows, order: RowOrder, plan: Plan
) -> tuple[MicroTensors, tuple[MicroTensors, MicroTensors] | None]:
    """Rows of a job to try its model out on.

    Returns:
        Some, each whole; and where rows are to share what they begin with, two that do, each
        whole and then sharing it: None where no first steps have any, or it was tried before.
    """
    numbers, device = _of_first_batch(order, plan), plan.machine.device
    some = evaluation_micro_batches(rows, numbers, plan.steps.micro_batch_tokens, device)[0]
    found = (largest_shared_prefix(rows, order.rows(step)[1]) for step in _steps_to_search(plan))
    group = next(filter(None, found), None)
    if group is None:
        return some, None
    two = group.rows[:2]
    segments = {n: rows.segments(n) for n in two}
    ways = [PrefixGroup((n,), 0) for n in two], [PrefixGroup(two, group.prefix_length)]
    whole, shared = (to_tensors(lay_out(way, segments), device) for way in ways)
    return some, (whole, shared)


def _steps_to_search(plan: Plan) -> range:
    """For rows that begin alike; of a flow, those whose rows are there before step 1."""
    if plan.tried or not plan.steps.share_prefixes:
        return range(0)
    most = plan.data.stream.steps_per_window if plan.data.stream else _SEARCHED
    return range(1, 1 + min(most, _SEARCHED, plan.steps.num))


def _of_first_batch(order: RowOrder, plan: Plan) -> Numbers:
    return order.rows(1)[1][: plan.looks.probe_rows]


def measure_loss(forward: Forward, micros: Sequence[MicroTensors], pulse: Pulse) -> Measured:
    """The mean loss over rows, in eval mode, summed batch by batch (no logits are kept).

    Leaves the model's mode and every random state as they were.
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


def audit(
    now: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    no_gradient: Set[str],
) -> TensorAudit:
    """Compare every trainable tensor with what it was at the start of the job.

    Args:
        now: the trained parameters.
        start: the same names, before the first update.
        no_gradient: names that never had a gradient other than zero.
    """
    changed: set[str] = set()
    moved_squares = start_squares = 0.0
    with torch.no_grad():
        for name, p in now.items():
            before = start[name].to(p.device, p.dtype)
            if not torch.equal(p, before):
                changed.add(name)
            moved_squares += float(torch.linalg.vector_norm(p - before).double() ** 2)
            start_squares += float(torch.linalg.vector_norm(before).double() ** 2)
    with_gradient = [name for name in now if name not in no_gradient]
    unmoved = [name for name in with_gradient if name not in changed]
    return TensorAudit(
        trainable=len(now),
        with_gradient=len(with_gradient),
        changed=len(changed),
        relative_change=math.sqrt(moved_squares / start_squares) if start_squares else 0.0,
        unmoved=tuple(unmoved[:MOST_NAMED]),
        dead=tuple(sorted(no_gradient)[:MOST_NAMED]),
    )
