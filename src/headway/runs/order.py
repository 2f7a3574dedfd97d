"""Row order of a run: built here for planner, trainer and verify alike."""

from headway.data.order import StoreOrder
from headway.runs.plan import Plan


def order_of(plan: Plan) -> StoreOrder:
    """The row order of a plan, from the plan alone.

    Of a stream it is an estimate: which rows there are is known when they are read.
    """
    data = plan.data
    # Every target of a text is trained, and a full row has `max_length` of them.
    is_text_store = data.kind == "text" and data.stream is None
    has_short = is_text_store and data.trained_tokens % data.max_length > 0
    return StoreOrder(
        seed=plan.seed,
        num_full=data.rows.accepted - has_short,
        has_short=has_short,
        num_held_out=data.rows.held_out,
        batch_size=plan.steps.batch_size,
        passed_over=data.twin_places,
    )
