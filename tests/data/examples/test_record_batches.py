"""Record batches: handed over when full, before a wait and at the end; none lost or repeated."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base.pulse import Pulse
from headway.data.examples.record_batches import MAX_CHARACTERS, MAX_RECORDS, batch_records


def batches_of(records: Iterator[str], pulse: Pulse) -> list[list[str]]:
    batches: list[list[str]] = []
    batch_records(records, batches.append, num_characters=len, pulse=pulse)
    return batches


@given(
    num=st.integers(0, 600),
    waits=st.sets(st.integers(0, 600), max_size=5),
    long=st.sets(st.integers(0, 600), max_size=3),
)
def test_every_record_comes_once_in_order_and_no_batch_is_too_large(
    num: int, waits: set[int], long: set[int]
) -> None:
    pulse = Pulse()

    def records() -> Iterator[str]:
        for number in range(num):
            if number in waits:
                with pulse.waiting("more"):
                    pass
            yield f"{number}" + "x" * (MAX_CHARACTERS if number in long else 0)

    batches = batches_of(records(), pulse)
    flat = [record for batch in batches for record in batch]
    assert [int(record.rstrip("x")) for record in flat] == list(range(num))
    assert all(0 < len(batch) <= MAX_RECORDS for batch in batches)
    # a batch ends where it is full, before a wait, and at the end
    ends = {int(batch[-1].rstrip("x")) + 1 for batch in batches}
    assert ends >= {n for n in waits if 0 < n < num} | {n + 1 for n in long if n < num}


def test_what_has_arrived_is_handed_over_before_the_wait_and_not_after_it() -> None:
    pulse = Pulse()
    log: list[str] = []

    def records() -> Iterator[str]:
        yield "a"
        with pulse.waiting("more"):
            log.append("waits")
        yield "b"

    batch_records(records(), log.extend, num_characters=len, pulse=pulse)
    assert log == ["a", "waits", "b"]


def test_a_failure_while_the_source_waits_is_not_taken_for_the_sources_own() -> None:
    """A full disk behind `take` must not look like a file that cannot be read."""
    pulse = Pulse()

    def records() -> Iterator[str]:
        try:
            yield "a"
            with pulse.waiting("more"):
                yield "b"
        except OSError:
            yield "a source that cannot be read"

    def take(batch: list[str]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        batch_records(records(), take, num_characters=len, pulse=pulse)
