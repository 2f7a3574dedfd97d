"""Cost: tokens and their squares; a shared prefix is seen whole."""

import pytest

from headway.base.documents import DocumentGroup, RowSpan
from headway.data.batching.cost import cost_of


@pytest.mark.parametrize(
    ("documents", "cost"),
    [
        ([DocumentGroup(10)], 10 + 100 / 50),
        ([DocumentGroup(10, 3)], 30 + 300 / 50),
        ([DocumentGroup(5), DocumentGroup(20)], 25 + 425 / 50),
        ([DocumentGroup(4), DocumentGroup(6, 2, RowSpan(0, 4))], 16 + (16 + 168) / 50),
    ],
)
def test_a_token_costs_itself_and_the_tokens_that_it_sees(
    documents: list[DocumentGroup], cost: float
) -> None:
    assert cost_of(documents, 1 / 50) == pytest.approx(cost)
