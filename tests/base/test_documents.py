"""Groups of documents in a packed row: plain values with names."""

import pytest

from headway.base.documents import DocumentGroup, RowSpan, document_lengths


def test_a_span_indexes_the_row() -> None:
    span = RowSpan(2, 5)
    assert span.length == 3
    assert list(range(10))[span.slice] == [2, 3, 4]


def test_a_group_takes_its_documents_tokens_without_the_prefix() -> None:
    assert DocumentGroup(7, 3, RowSpan(0, 100)).num_tokens == 21
    assert DocumentGroup(7) == DocumentGroup(7, 1, None)


def test_each_documents_length_in_the_rows_order() -> None:
    assert document_lengths([DocumentGroup(2, 3), DocumentGroup(9)]) == [2, 2, 2, 9]


def test_groups_are_values() -> None:
    assert {DocumentGroup(2, 1, RowSpan(0, 3))} == {DocumentGroup(2, 1, RowSpan(0, 3))}
    with pytest.raises(AttributeError):
        DocumentGroup(2).length = 3  # type: ignore[misc]
