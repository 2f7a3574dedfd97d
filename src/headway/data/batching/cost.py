"""Cost of rows: how much there is to compute, from their lengths and the squares of these."""

from collections.abc import Iterable

from headway.base.documents import DocumentGroup


def cost_of(documents: Iterable[DocumentGroup], square_weight: float) -> float:
    """The cost of documents, in tokens without attention.

    Args:
        documents: of a micro-batch.
        square_weight: cost of a token's attention in a document, per token of the document: it
            sees half of them.
    """
    cost = 0.0
    for group in documents:
        length = group.length + 2 * (group.prefix.length if group.prefix else 0)
        cost += group.num_tokens * (1 + square_weight * length)
    return cost
