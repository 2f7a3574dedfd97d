"""Routing: how evenly the rows of a step keep the workers of a plan busy."""

from headway.data.batching.cost import cost_of
from headway.data.batching.packing import pack
from headway.data.batching.rows import StoreRows
from headway.data.order import StoreOrder
from headway.model.sizes import ModelShape, square_weight
from headway.planning.step_layout import StepLayout
from headway.runs.workers import Routed, WorkerTree

_MAX_STEPS, _MAX_ROWS = 8, 2048  # that are packed to see


def idle_share(
    rows: StoreRows, order: StoreOrder, layout: StepLayout, shape: ModelShape, tree: WorkerTree
) -> float:
    """Share of the workers' time in which they wait for the one with the most work of a step.

    Steps are packed as training will; a leaf costs its tokens and their squares.

    Args:
        rows: of the data, or of its sample.
        order: which rows make which step.
        layout: of a step.
        shape: of the model.
        tree: of the workers.
    """
    if tree.workers == 1:
        return 0.0
    order = order.of_sample(rows.num_rows)
    per_epoch, weight = order.steps_per_epoch, square_weight(shape)
    num_steps = min(per_epoch, _MAX_STEPS, max(1, _MAX_ROWS // order.batch_size))
    routed = Routed()
    for i in range(num_steps):
        numbers = order.rows(1 + i * per_epoch // num_steps)[1]
        leaves = pack(
            rows, numbers, layout.leaves, layout.micro_batch_tokens, share=layout.share_prefixes
        )
        costs = [sum(cost_of(m.documents, weight) for m in leaf) for leaf in leaves]
        routed = routed.add(tree.costs(costs))
    return routed.spare
