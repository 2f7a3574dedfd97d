"""For each step of the plan: batch, step, yield.

Saving, evaluating and sampling belong to the caller, between two steps and nowhere else.
"""

from collections.abc import Callable, Iterable, Iterator

from headway.data.batching.batches import Batch
from headway.runs.receipt import StepReport


def train(
    batches: Iterable[Batch], take_step: Callable[[Batch], StepReport]
) -> Iterator[tuple[Batch, StepReport]]:
    """Take every step. What is yielded is finished: its update has reached the weights."""
    for batch in batches:
        yield batch, take_step(batch)
