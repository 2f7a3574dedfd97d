"""Packed attention: each document alone, with whatever is done with scores."""

import pytest
import torch

from headway.base.documents import DocumentGroup
from headway.model.attention_layout import AttentionLayout
from headway.model.kernels.packed_attention import Scores, packed_attention

LENGTHS = (5, 7, 300)


@pytest.mark.parametrize(
    "scores",
    [Scores(0.35), Scores(0.35, window=4), Scores(0.35, softcap=2.0)],
    ids=["plain", "window", "softcap"],
)
def test_documents_in_a_row_are_as_alone(scores: Scores) -> None:
    draws = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, heads, sum(LENGTHS), 8, generator=draws) for heads in (4, 2, 2)]
    layout = AttentionLayout([DocumentGroup(length) for length in LENGTHS])
    out = packed_attention(tensors[0], tensors[1], tensors[2], layout, scores)
    assert out.is_contiguous()
    parts = out.split(LENGTHS, dim=1)
    for length, part, own in zip(
        LENGTHS, parts, zip(*(t.split(LENGTHS, dim=2) for t in tensors), strict=True), strict=True
    ):
        q, k, v = own
        k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
        back = torch.arange(length)[:, None] - torch.arange(length)
        hidden = (back < 0) | (back >= (scores.window or length))
        raw = q @ k.transpose(2, 3) * scores.scale
        if scores.softcap:
            raw = scores.softcap * torch.tanh(raw / scores.softcap)
        alone = raw.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        torch.testing.assert_close(part, alone.transpose(1, 2), rtol=1e-4, atol=1e-5)
