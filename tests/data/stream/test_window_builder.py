"""The window builder: what an item adds to rows, counts and cursor, without a source."""

import numpy as np

from headway.data.examples.examples import Example
from headway.data.formats.records import Record, Rejected, RejectReason
from headway.data.stream.cursor import StreamCursor, StreamPosition
from headway.data.stream.spec import StreamSpec
from headway.data.stream.window import RowOrigin
from headway.data.stream.window_builder import StreamItem, WindowBuilder

SPEC = StreamSpec("text", 4, "cut", 2, 1, 0, 7, 1.0, "uint16")


def item(number: int, num_tokens: int) -> StreamItem:
    example = Example("a.jsonl", number, np.arange(num_tokens), np.ones(num_tokens, np.bool_))
    record = Record("a.jsonl", number, "words")
    return StreamItem(RowOrigin(0, 0, number), StreamPosition(0, 0, number), record, example)


def builder(cursor: StreamCursor | None = None) -> WindowBuilder:
    return WindowBuilder(SPEC, cursor or StreamCursor(), lambda rejected, _: rejected)


def take(made: WindowBuilder, one: StreamItem) -> int:
    rows = list(made.rows(one))
    made.finished += rows
    return len(rows)


def test_a_text_fills_rows_and_its_rest_waits_for_the_next() -> None:
    made = builder()
    assert take(made, item(1, 7)) == 1  # 6 targets: a row of 4, and 2 that wait
    assert take(made, item(2, 3)) == 1
    window = made.window()
    assert window.origins_R4.tolist() == [[0, 0, 1, 0], [0, 0, 1, 4]]
    assert window.facts.after.position == StreamPosition(0, 0, 2)
    assert (window.facts.after.rows, window.facts.after.steps) == (2, 1)
    assert not window.facts.has_short


def test_the_rest_of_an_epoch_is_a_short_row_of_a_smaller_window() -> None:
    made = builder()
    take(made, item(1, 7))
    made.end_epoch(0)
    window = made.window()
    assert (len(window), window.facts.has_short, made.last_epoch_rows) == (2, True, 2)
    after = window.facts.after
    assert (after.position, after.epoch_rows, after.first_epoch_rows) == (StreamPosition(1), 0, 2)


def test_an_epoch_that_ended_with_its_window_begins_the_next_with_clean_counts() -> None:
    made = builder()
    take(made, item(1, 9))
    first = made.window()
    assert (first.facts.after.epoch_rows, first.facts.after.first_epoch_rows) == (2, 0)
    made.end_epoch(0)
    take(made, item(1, 9))
    before = made.window().facts.before
    assert (before.position, before.epoch_rows) == (StreamPosition(1), 0)
    assert before.first_epoch_rows == 2


def test_a_rejected_record_is_counted_and_kept_for_its_window() -> None:
    made = builder()
    bad = Rejected("a.jsonl", 1, RejectReason.NOT_JSON)
    assert take(made, StreamItem(RowOrigin(0, 0, 1), StreamPosition(0, 0, 1), bad)) == 0
    take(made, item(2, 5))
    window = made.window()
    assert window.facts.rejected == (bad,)
    assert (window.facts.after.read, window.facts.after.num_rejected) == (2, 1)
