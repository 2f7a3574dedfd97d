"""Record batches for the tokenizer, flushed when full and before every wait."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from headway.base.foreign.boundary import Interruption
from headway.base.pulse import Pulse

T = TypeVar("T")

MAX_RECORDS = 256
MAX_CHARACTERS = 500_000


def batch_records(
    records: Iterable[T],
    take: Callable[[list[T]], None],
    *,
    num_characters: Callable[[T], int],
    pulse: Pulse,
) -> None:
    """Give records to `take` in batches, in order.

    A batch is handed over when it is full, at the end, and before any wait for the source, so that
    the part of a slow stream that has arrived is processed while the rest is on its way.

    Args:
        records: consumed completely.
        take: called with each batch; it may raise to stop reading.
        num_characters: returns the characters of text in a record.
        pulse: where the source reports its waits.

    Raises:
        Exception: whatever reading or `take` raised.
    """
    held: list[T] = []
    characters = 0

    def hand_over() -> None:
        nonlocal held, characters
        batch, held, characters = held, [], 0
        if batch:
            take(batch)

    def hand_over_before_wait() -> None:
        try:
            hand_over()
        except Exception as error:
            raise _TakeFailedError(error) from error

    try:
        with pulse.calling_before_waits(hand_over_before_wait):
            for record in records:
                held.append(record)
                characters += num_characters(record)
                if len(held) >= MAX_RECORDS or characters >= MAX_CHARACTERS:
                    hand_over()
    except _TakeFailedError as failed:
        raise failed.error from None
    hand_over()


class _TakeFailedError(Interruption):
    """`take` failed while the source waited; readers must not take it for their own error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
