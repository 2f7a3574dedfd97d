"""Row order of a run, the same for planner, trainer and verify."""

from headway.data.order import StoreOrder, StreamOrder
from headway.runs.plan import Plan


def make_row_order(
    *,
    seed: int,
    num_full: int,
    has_short: bool,
    num_held_out: int,
    batch_size: int,
    steps_per_window: int | None,
) -> StoreOrder | StreamOrder:
    """The order of a store's rows, or of a stream's.

    Args:
        seed: of the permutations.
        num_full: full rows, held-out ones included; about, for a stream.
        has_short: a text's last row is shorter.
        num_held_out: of the full rows.
        batch_size: rows of a step.
        steps_per_window: of a stream; None for a store.
    """
    if steps_per_window is None:
        return StoreOrder(seed, num_full, has_short, num_held_out, batch_size)
    rows_per_epoch = num_full - num_held_out
    return StreamOrder(seed, num_held_out, batch_size, steps_per_window, rows_per_epoch)


def order_of(plan: Plan) -> StoreOrder | StreamOrder:
    """The row order of a plan, from the plan alone."""
    data = plan.data
    # Every target of a text is trained, and a full row has `max_length` of them.
    is_text_store = data.kind == "text" and data.stream is None
    has_short = is_text_store and data.trained_tokens % data.max_length > 0
    return make_row_order(
        seed=plan.seed,
        num_full=data.rows.accepted - has_short,
        has_short=has_short,
        num_held_out=data.rows.held_out,
        batch_size=plan.steps.batch_size,
        steps_per_window=data.stream.steps_per_window if data.stream else None,
    )
