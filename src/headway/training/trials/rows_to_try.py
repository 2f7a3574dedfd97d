"""Trial rows: a few of the first step, and two with a common prefix."""

from headway.data.batching.batches import MicroTensors, evaluation_micro_batches, to_tensors
from headway.data.batching.packing import largest_shared_prefix, lay_out
from headway.data.batching.rows import Rows
from headway.data.batching.shared_prefixes import PrefixGroup
from headway.data.order import RowOrder
from headway.runs.plan import Plan
from headway.training.evaluation.evaluate import probe_rows

_SEARCHED = 16  # steps


def first_rows(
    rows: Rows, order: RowOrder, plan: Plan
) -> tuple[MicroTensors, tuple[MicroTensors, MicroTensors] | None]:
    """Rows of a job to try its model on.

    Returns:
        Some rows, each in full; and if rows are to share prefixes, two with a common prefix, each
        in full and then with the prefix shared. None if the first steps have no such rows.
    """
    numbers, device = probe_rows(order, plan), plan.machine.device
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
    """Steps to search for a common prefix; of a stream, those that are read before step 1."""
    if not plan.steps.share_prefixes:
        return range(0)
    most = plan.data.stream.steps_per_window if plan.data.stream else _SEARCHED
    return range(1, 1 + min(most, _SEARCHED, plan.steps.num))
