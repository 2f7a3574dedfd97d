"""Step layout: micro-batch size, summation leaves and prefix sharing."""

from dataclasses import dataclass, replace

from headway.config.settings import Settings
from headway.data.batching.packing import num_leaves
from headway.data.batching.rows import StoreRows
from headway.data.order import StoreOrder
from headway.planning.compute import Compute
from headway.planning.prefix_sharing import MIN_SHARE, prefix_savings
from headway.runs.workers import WorkerTree

_MICRO_BATCH_TOKENS = 2048  # a processor is no faster with more
_MICRO_BATCH_TOKENS_GPU = 16_384
_MIN_MENTIONED = 0.01  # of a step's tokens; a smaller shared part is not mentioned
_UNLIMITED = 1 << 40  # tokens


@dataclass(frozen=True)
class StepLayout:
    """How a step is divided, and what its rows share.

    Attributes:
        leaves: partial sums of the gradient.
        micro_batch_tokens: tokens computed at once.
        shared: share of the input tokens in prefixes that another row of the step has too.
        share_prefixes: whether these are computed once.
        not_shared: why not, if there is something to share.
        leaves_alone: leaves of a single worker; several have more where a step has few tokens.
    """

    leaves: int
    micro_batch_tokens: int
    shared: float = 0.0
    share_prefixes: bool = False
    not_shared: str = ""
    leaves_alone: int = 0

    def computed_tokens(self, step_tokens: int) -> int:
        """Input tokens of a step that are computed, about."""
        return round(step_tokens * (1 - self.shared)) if self.share_prefixes else step_tokens


def fastest_layout(
    settings: Settings,
    rows: StoreRows,
    order: StoreOrder,
    step_tokens: int,
    obstacle: str,
    compute: Compute,
) -> StepLayout:
    """The layout to use if memory allows: leaves and micro-batches by the tokens computed.

    Args:
        settings: micro_batch_tokens.
        rows: of the data, or of its sample.
        order: which rows make which step.
        step_tokens: input tokens of a full step, about.
        obstacle: why rows must not share prefixes; "" if they may.
        compute: the device, and the workers that share a step's leaves.
    """
    layout = _layout(settings, rows, order, step_tokens, obstacle, compute)
    alone = layout
    if compute.workers.workers > 1:
        one = replace(compute, workers=WorkerTree())
        alone = _layout(settings, rows, order, step_tokens, obstacle, one)
    return replace(layout, leaves_alone=alone.leaves)


def _layout(
    settings: Settings,
    rows: StoreRows,
    order: StoreOrder,
    step_tokens: int,
    obstacle: str,
    compute: Compute,
) -> StepLayout:
    limit = _MICRO_BATCH_TOKENS_GPU if compute.device == "cuda" else _MICRO_BATCH_TOKENS

    def divide(tokens: int) -> StepLayout:
        leaves = num_leaves(tokens, order.batch_size, workers=compute.workers.workers)
        micro = settings.micro_batch_tokens or _micro_batch_tokens(tokens // leaves, limit)
        return StepLayout(leaves, micro)

    unshared = divide(step_tokens)
    if rows.store.survey.kind == "text":  # its rows start anywhere
        return unshared
    possible = prefix_savings(rows, order, 1, _UNLIMITED).share
    if possible < MIN_SHARE:
        reason = "it would save too little" if possible >= _MIN_MENTIONED else ""
        return replace(unshared, shared=possible, not_shared=reason)
    if obstacle:
        return replace(unshared, shared=possible, not_shared=obstacle)
    shared = divide(round(step_tokens * (1 - possible)))
    found = prefix_savings(rows, order, shared.leaves, shared.micro_batch_tokens)
    if found.share < MIN_SHARE:
        reason = _too_small(shared.micro_batch_tokens)
        return replace(unshared, shared=possible, not_shared=reason)
    return replace(shared, leaves=found.leaves, shared=found.share, share_prefixes=True)


def as_it_fits(
    layout: StepLayout,
    rows: StoreRows,
    order: StoreOrder,
    *,
    leaves: int,
    micro_batch_tokens: int,
) -> StepLayout:
    """The layout with the leaves and micro-batches that memory allows, which may share less.

    Args:
        layout: the fastest one.
        rows: of the data, or of its sample.
        order: which rows make which step.
        leaves: at most those of `layout`.
        micro_batch_tokens: tokens computed at once; at most those of `layout`.
    """
    smaller = replace(layout, leaves=leaves, micro_batch_tokens=micro_batch_tokens)
    if smaller == layout or not layout.share_prefixes:
        return smaller
    found = prefix_savings(rows, order, leaves, micro_batch_tokens)
    if found.share >= MIN_SHARE:
        return replace(smaller, shared=found.share)
    return replace(smaller, share_prefixes=False, not_shared=_too_small(micro_batch_tokens))


def _too_small(micro_batch_tokens: int) -> str:
    return f"micro-batches of {micro_batch_tokens:,} tokens are too small for it"


def _micro_batch_tokens(leaf_tokens: int, limit: int) -> int:
    """A whole leaf if it is small enough."""
    return max(256, min(limit, 1 << max(leaf_tokens - 1, 1).bit_length()))
