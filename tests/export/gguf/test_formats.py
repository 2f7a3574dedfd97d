"""Number formats: the same bytes as llama.cpp's own package makes, some rows at a time."""

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from headway.export.gguf import formats
from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.formats import encoded, format_of, row_order
from headway.model.gguf.layout import TensorTarget
from headway.model.gguf.weights import _row_order


def weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bytes_of(tensor: torch.Tensor, kind: str, **target: float) -> bytes:
    made = TensorTarget("w", tuple(tensor.shape), **target)  # type: ignore[arg-type]
    return b"".join(part.tobytes() for part in encoded(tensor, made, kind))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_bytes_are_those_of_the_gguf_package(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_PART_VALUES", 64 * rows)
    values = weight(20, 64)
    values[3] = 0.0
    values[4, 0] = 1000.0
    expected = quantize(values.numpy(), GGMLQuantizationType[kind])
    assert bytes_of(values, kind) == expected.tobytes()


def test_halves_of_q8_0_are_rounded_away_from_zero() -> None:
    values = torch.tensor([[127.0, 0.5, -0.5, 1.5, 2.5, -2.5, *[0.0] * 26]])
    stored = np.frombuffer(bytes_of(values, "Q8_0")[2:], np.int8)
    assert stored[:6].tolist() == [127, 1, -1, 2, 3, -3]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("Q4_K", 0.1), ("Q5_K", 0.05), ("Q6_K", 0.025), ("Q5_0", 0.06), ("Q5_1", 0.06)],
)
@pytest.mark.parametrize("num_rows", [1, 7])
def test_k_quants_are_those_of_llama_cpp(kind: str, error: float, num_rows: int) -> None:
    values = weight(num_rows, 512)
    raw = np.frombuffer(bytes_of(values, kind), np.uint8).reshape(num_rows, -1)
    back = dequantize(raw, GGMLQuantizationType[kind])
    apart = float(np.sqrt(np.mean((back - values.numpy()) ** 2)))
    assert 0 < apart < error


def test_the_order_of_rows_is_the_one_that_reading_takes_back() -> None:
    order = row_order(24, 3)
    assert order is not None
    assert order.tolist()[:8] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert order[_row_order(24, 3)].tolist() == list(range(24))
    assert row_order(24, 0) is None


def test_rows_of_matrices_and_values_of_biases_change_their_order() -> None:
    values = weight(8, 32)
    order = row_order(8, 2)
    assert order is not None
    assert bytes_of(values, "F32", heads=2) == values.numpy()[order].tobytes()
    bias = weight(8)
    assert bytes_of(bias, "F32", heads=2) == bias.numpy()[order].tobytes()


def test_a_norm_is_written_with_what_llama_cpp_adds() -> None:
    norm = weight(16)
    assert bytes_of(norm, "F32", plus=1.0) == (norm.numpy() + np.float32(1)).tobytes()


def test_halves_are_kept_as_they_are() -> None:
    values = weight(4, 32)
    for kind, stored in (("F16", values.half()), ("BF16", values.bfloat16())):
        assert bytes_of(stored, kind) == stored.view(torch.int16).numpy().tobytes()
    assert bytes_of(values.bfloat16(), "F16") == values.bfloat16().half().numpy().tobytes()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_K"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(kind: str, value: float) -> None:
    values = weight(2, 256)
    values[1, 3] = value
    with pytest.raises(UnsupportedModelError, match=" in w"):
        bytes_of(values, kind)


@pytest.mark.parametrize(
    ("name", "width", "quantize", "kind"),
    [
        ("blk.0.attn_norm.weight", 0, "q4_k_m", "F32"),
        ("blk.5.attn_q.weight", 256, "f32", "F32"),
        ("blk.5.attn_q.weight", 256, "q8_0", "Q8_0"),
        ("blk.5.attn_q.weight", 256, "q4_k_m", "Q4_K"),
        ("blk.5.attn_qkv.weight", 256, "q4_k_m", "Q5_K"),
        ("blk.5.attn_qkv.weight", 256, "q5_k_m", "Q6_K"),
        ("blk.0.attn_v.weight", 256, "q4_k_m", "Q6_K"),  # the first eighth
        ("blk.2.attn_v.weight", 256, "q4_k_m", "Q4_K"),
        ("blk.4.ffn_down.weight", 256, "q5_k_m", "Q6_K"),  # every third
        ("blk.5.ffn_down.weight", 256, "q5_k_m", "Q5_K"),
        ("blk.15.ffn_down.weight", 256, "q5_k_m", "Q6_K"),  # the last eighth
        ("output.weight", 256, "q4_k_m", "Q6_K"),
        ("token_embd.weight", 256, "q4_k_m", "Q4_K"),
        ("blk.5.attn_q.weight", 96, "q4_k_m", "Q5_0"),  # rows that are no whole blocks
        ("blk.5.attn_q.weight", 96, "q5_k_m", "Q5_1"),
        ("output.weight", 96, "q4_k_m", "Q8_0"),
        ("blk.5.attn_q.weight", 48, "q4_k_m", "F16"),
        ("blk.5.attn_q.weight", 48, "q8_0", "F16"),
    ],
)
def test_which_format_a_tensor_gets(name: str, width: int, quantize: str, kind: str) -> None:
    shape = (8, width) if width else (8,)
    assert format_of(name, shape, quantize, 16, tied=False).kind == kind


def test_a_tied_embedding_is_kept_like_a_head() -> None:
    found = format_of("token_embd.weight", (8, 256), "q4_k_m", 16, tied=True)
    assert found.kind == "Q6_K"
    assert found.num_bytes == 8 * 210
