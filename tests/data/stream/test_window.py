"""A window's file holds its rows and facts, or counts as missing."""

from pathlib import Path

import numpy as np
import pytest

from headway.data.batching.rows import Segment
from headway.data.formats.records import Rejected, RejectReason
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.window import (
    RowOrigin,
    Window,
    WindowFacts,
    load_window,
    make_window,
    save_window,
    window_path,
)

FACTS = WindowFacts(
    StreamCursor(3, StreamPosition(1, 1), 12, 90, 5, 20, 70, 48),
    StreamCursor(4, StreamPosition(1, 2, 3, 4), 14, 98, 6, 28, 70, 50, {"not JSON": 1}, 6),
    False,
    (Rejected("a.jsonl", 7, RejectReason.NOT_JSON, "{bad"),),
    {0: 3, 5: -1},
)


def segment(*ids: int, trained: list[bool] | None = None) -> Segment:
    return Segment(np.array(ids), None if trained is None else np.array(trained))


ORIGINS = [RowOrigin(0, 4, 1), RowOrigin(0, 4, 2), RowOrigin(1, 2, 1)]
TEXT = [[segment(1, 2, 3), segment(4, 5)], [segment(6, 7, 8, 9)]]
CHAT = [
    [segment(1, 2, 3, trained=[False, True])],
    [segment(4, 5, trained=[True])],
    [segment(6, 7)],
]


def rows_in(window: Window) -> list[list[tuple[list[int], list[bool] | None]]]:
    return [
        [
            (s.ids.tolist(), None if s.trained is None else s.trained.tolist())
            for s in window.segments(row)
        ]
        for row in range(len(window))
    ]


def test_a_window_has_the_rows_it_was_made_of() -> None:
    assert rows_in(make_window(TEXT, ORIGINS[:2], FACTS, "uint16")) == [
        [([1, 2, 3], None), ([4, 5], None)],
        [([6, 7, 8, 9], None)],
    ]


def test_a_segment_without_flags_is_trained_beside_segments_with_flags() -> None:
    assert rows_in(make_window(CHAT, ORIGINS, FACTS, "uint16")) == [
        [([1, 2, 3], [False, True])],
        [([4, 5], [True])],
        [([6, 7], [True])],
    ]


@pytest.mark.parametrize("rows", [TEXT, CHAT], ids=["text", "conversations"])
def test_a_window_reads_back_as_it_was(rows: list[list[Segment]], tmp_path: Path) -> None:
    window = make_window(rows, ORIGINS[: len(rows)], FACTS, "uint32")
    save_window(tmp_path, 3, window)
    read = load_window(tmp_path, 3)
    assert read is not None
    assert rows_in(read) == rows_in(window)
    assert read.identities_R.tolist() == window.identities_R.tolist()
    assert (read.facts, read.ids.dtype) == (FACTS, np.dtype("uint32"))
    assert load_window(tmp_path, 4) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_window_counts_as_missing(damage: str, tmp_path: Path) -> None:
    save_window(tmp_path, 0, make_window([[segment(*range(500))]], ORIGINS[:1], FACTS, "uint16"))
    file = window_path(tmp_path, 0)
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[data.index(b"ids.npy") + 200] ^= 1
    file.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    assert load_window(tmp_path, 0) is None


def test_the_held_out_window_has_a_name_of_its_own_and_the_others_sort_by_number() -> None:
    names = [window_path(Path(), number).name for number in (2, 10, 12_345_678)]
    assert names == sorted(names)
    assert window_path(Path(), HELD_OUT).name not in (names[0], window_path(Path(), 1).name)
