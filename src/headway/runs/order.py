"""The row order of a plan, for planner, trainer and verify."""

from headway.data.order import StoreOrder, StreamOrder
from headway.runs.plan import Plan


def order_of(plan: Plan) -> StoreOrder | StreamOrder:
    """The order of a plan's rows, from the plan alone."""
    data, batch = plan.data, plan.steps.batch_size
    held_out = data.rows.held_out
    if data.stream:
        due = data.rows.accepted - held_out
        return StreamOrder(plan.seed, held_out, batch, data.stream.steps_per_window, due)
    # every target of a text is learned, and a row takes `max_length` of them
    has_short = data.kind == "text" and data.trained_tokens % data.max_length > 0
    return StoreOrder(plan.seed, data.rows.accepted - has_short, has_short, held_out, batch)
