"""Which tokens of a row attend to each other: blocks, padding and FlashAttention's offsets."""

import torch
from tests.helpers import micro_of

from headway.base.documents import DocumentGroup, RowSpan
from headway.model.attention_layout import AttentionLayout, VarlenLayout


def test_documents_of_nearly_one_length_are_one_batch() -> None:
    blocks = AttentionLayout(micro_of(3, 5, 5, 8, 9, 41, 42).documents).blocks
    assert [(block.num_documents, block.length) for block in blocks.each] == [
        (4, 8),
        (1, 16),
        (2, 48),
    ]
    assert blocks.where_N is not None
    assert blocks.at_P is not None
    assert len(blocks.at_P) == 4 * 8 + 16 + 2 * 48
    assert blocks.at_P[blocks.where_N].tolist() == list(range(3 + 5 + 5 + 8 + 9 + 41 + 42))


def test_documents_of_one_length_stand_as_they_are() -> None:
    blocks = AttentionLayout((DocumentGroup(64, 4),)).blocks
    assert (blocks.at_P, blocks.where_N) == (None, None)


def test_what_others_begin_with_is_a_block_by_itself() -> None:
    prefix = RowSpan(7, 14)
    documents = (
        DocumentGroup(7),
        DocumentGroup(7),
        DocumentGroup(2, 3, prefix),
        DocumentGroup(5, 1, prefix),
        DocumentGroup(5),
    )
    blocks = AttentionLayout(documents).blocks
    assert [(b.num_documents, b.length, b.prefix_block) for b in blocks.each] == [
        (1, 8, None), (1, 7, None), (4, 8, 1), (1, 8, None),
    ]  # fmt: skip


def test_where_each_documents_queries_and_keys_begin() -> None:
    documents = (DocumentGroup(3), DocumentGroup(2, 2, RowSpan(0, 3)), DocumentGroup(4))
    flat = VarlenLayout.of(documents, torch.device("cpu"))
    assert flat.queries.tolist() == [0, 3, 5, 7, 11]
    assert flat.keys.tolist() == [0, 3, 8, 13, 17]
    assert flat.at is not None
    assert flat.at.tolist() == [0, 1, 2, *(0, 1, 2, 3, 4), *(0, 1, 2, 5, 6), 7, 8, 9, 10]
    assert flat.longest == (4, 5)
    assert VarlenLayout.of(documents[:1], torch.device("cpu")).at is None


def test_a_mask_reaches_into_the_prefix_only_where_a_window_ends_there() -> None:
    blocks = AttentionLayout((DocumentGroup(4), DocumentGroup(3, 2, RowSpan(0, 4)))).blocks
    block = blocks.each[1]
    whole = blocks.mask(block, None, torch.float32)
    assert whole.shape == (block.length, block.length)
    assert (whole == 0).tolist() == torch.ones_like(whole).tril().bool().tolist()
    windowed = blocks.mask(block, 2, torch.float32)
    assert windowed.shape == (block.length, 4 + block.length)
    assert (windowed == 0).sum(1).tolist() == [2] * block.length
