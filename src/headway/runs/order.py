"""The row order of a plan, for planner, trainer and verify."""

from headway.data.order import FlowOrder, Order
from headway.runs.plan import Plan


def order_of(plan: Plan) -> Order | FlowOrder:
    """The order of a plan's rows, from the plan alone."""
    data, batch = plan.data, plan.steps.batch_size
    held_out = data.rows.held_out
    if data.flow:
        due = data.rows.accepted - held_out
        return FlowOrder(plan.seed, held_out, batch, data.flow.steps_per_window, due)
    # every target of a text is learned, and a row takes `max_length` of them
    has_short = data.kind == "text" and data.trained_tokens % data.max_length > 0
    return Order(plan.seed, data.rows.accepted - has_short, has_short, held_out, batch)
