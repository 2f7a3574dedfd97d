"""Where a stream stands, as a value that survives JSON."""

import msgspec

from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition


def test_a_cursor_comes_back_from_json_as_it_was() -> None:
    cursor = StreamCursor(
        3, StreamPosition(1, 2, 5, 7), 6, 48, 2**64 - 1, 8, 40, 41, {"not JSON": 1}, 4
    )
    assert msgspec.json.decode(msgspec.json.encode(cursor), type=StreamCursor) == cursor


def test_rejected_records_are_counted_over_all_reasons() -> None:
    assert StreamCursor().num_rejected == 0
    assert StreamCursor(rejected={"not JSON": 2, "blank": 1}).num_rejected == 3


def test_the_first_window_begins_at_the_beginning_and_the_held_out_one_comes_before() -> None:
    assert StreamCursor().window == 0
    assert StreamCursor().window > HELD_OUT


def test_later_epochs_bring_no_further_rows() -> None:
    assert StreamCursor(rows=30).distinct_rows == 30
    assert StreamCursor(rows=100, first_epoch_rows=46).distinct_rows == 46
