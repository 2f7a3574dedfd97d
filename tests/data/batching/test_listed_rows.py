"""Rows as lists of tokens: the same as before, or their beginning."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.batching.listed_rows import ListedRows, ListedSegment, cut_rows
from headway.data.batching.rows import Segment

FLAGS = st.lists(st.booleans(), min_size=1, max_size=20)


def segment(flags: list[bool] | None, num: int = 0) -> Segment:
    ids = np.arange(len(flags) if flags else num, dtype=np.uint16)
    ids = np.append(ids, 7).astype(np.uint16)
    return Segment(ids, None if flags is None else np.array(flags))


@given(FLAGS)
def test_a_segment_comes_back_as_it_was(flags: list[bool]) -> None:
    before = segment(flags)
    plain = msgspec.json.decode(msgspec.json.encode(ListedSegment.of(before)), type=ListedSegment)
    (after,) = ListedRows([(plain,)]).segments(0)
    assert after.ids.tolist() == before.ids.tolist()
    assert after.trained is not None
    assert after.trained.tolist() == flags


def test_a_segment_of_text_has_no_flags() -> None:
    assert ListedSegment.of(segment(None, 3)) == ListedSegment([0, 1, 2, 7])
    assert ListedSegment([0, 1, 2, 7]).segment().trained is None


@given(FLAGS, st.integers(1, 25))
def test_a_row_that_is_cut_is_its_beginning(flags: list[bool], most: int) -> None:
    before = segment(flags)
    rows = cut_rows([(ListedSegment.of(before),)], most)
    assert len(rows) == any(flags[:most])
    for (one,) in rows:
        after = one.segment()
        assert after.ids.tolist() == before.ids[: most + 1].tolist()
        assert after.trained is not None
        assert after.trained.tolist() == flags[:most]


@pytest.mark.parametrize(("most", "lengths"), [(9, [3, 5]), (7, [3, 4]), (3, [3]), (2, [2])])
def test_a_row_of_several_documents_is_cut_in_one_of_them(most: int, lengths: list[int]) -> None:
    row = ListedSegment([0] * 4), ListedSegment([0] * 6)
    ((*cut,),) = cut_rows([row], most)
    assert [len(one.segment()) for one in cut] == lengths
