"""Trial rows: a few of the first step, and two with a common prefix."""

from dataclasses import replace

import numpy as np

from headway.data.batching.batches import MicroTensors, to_tensors
from headway.data.batching.packing import largest_shared_prefix, lay_out
from headway.data.batching.rows import Rows, Segment
from headway.data.batching.shared_prefixes import PrefixGroup
from headway.data.order import RowOrder
from headway.runs.plan import Plan
from headway.training.evaluation.evaluate import probe_rows

_SEARCHED = 16  # steps
# The trials run these rows up to ten times, forward and in fp32; a step runs its tokens forward and
# backward, in what may be a smaller number format.
_SHARE = 8  # they hold one in eight of a step's tokens
_LEAST, _MOST = 32, 512  # tokens
_TARGETS = 32  # of a document: with a large vocabulary, logits take most of the memory


def first_rows(
    rows: Rows, order: RowOrder, plan: Plan
) -> tuple[MicroTensors, tuple[MicroTensors, MicroTensors] | None]:
    """Rows of a job to try its model on, cut so that all trials together cost less than a step.

    Returns:
        Two documents; and if rows are to share prefixes, two rows with a common prefix, each in
        full and then with the prefix shared. None if the first steps have no such rows.
    """
    device = plan.machine.device
    num_tokens = min(max(plan.steps.tokens // _SHARE, _LEAST), _MOST) // 2  # of each
    documents = [(n, s) for n in probe_rows(order, plan).tolist() for s in rows.segments(n)]
    longest = sorted(documents, key=lambda one: len(one[1]))[-2:]
    numbers = tuple(range(len(longest)))
    cut = {place: [_cut(s, 0, num_tokens)] for place, (_, s) in enumerate(longest)}
    two = lay_out([PrefixGroup((place,), 0) for place in numbers], cut)
    some = replace(to_tensors(two, device), rows_R=np.array([n for n, _ in longest]))
    found = (largest_shared_prefix(rows, order.rows(step)[1]) for step in _steps_to_search(plan))
    group = next(filter(None, found), None)
    if group is None:
        return some, None
    return some, _prefixed(rows, group, num_tokens, device)


def _prefixed(
    rows: Rows, group: PrefixGroup, num_tokens: int, device: str
) -> tuple[MicroTensors, MicroTensors]:
    """Two rows around the end of their common prefix, in full and with the prefix shared."""
    two, length = group.rows[:2], min(group.prefix_length, num_tokens // 2)
    begin = group.prefix_length - length
    segments = {n: [_cut(rows.segments(n)[0], begin, num_tokens, length - 1)] for n in two}
    ways = [PrefixGroup((n,), 0) for n in two], [PrefixGroup(two, length)]
    whole, shared = (to_tensors(lay_out(way, segments), device) for way in ways)
    return whole, shared


def _cut(segment: Segment, begin: int, num_tokens: int, first_target: int = 0) -> Segment:
    """A part of a document; some of its targets are trained, from the first one to the last.

    Args:
        segment: the document.
        begin: first token of the part.
        num_tokens: in the part, at most.
        first_target: first target that is trained, counted within the part.
    """
    ids = segment.ids[begin : begin + num_tokens + 1]
    trained = np.zeros(len(ids) - 1, dtype=np.bool_)
    trained[np.linspace(first_target, len(trained) - 1, _TARGETS).astype(int)] = True
    return Segment(ids, trained)


def _steps_to_search(plan: Plan) -> range:
    """Steps to search for a common prefix; of a stream, those that are read before step 1."""
    if not plan.steps.share_prefixes:
        return range(0)
    most = plan.data.stream.steps_per_window if plan.data.stream else _SEARCHED
    return range(1, 1 + min(most, _SEARCHED, plan.steps.num))
