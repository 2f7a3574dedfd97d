"""Layers in 4 bits compute with the weights behind their codes, and nothing of them is trained."""

import copy
from typing import Any

import pytest
import torch
from tests.helpers import causal
from torch import nn

from headway.base.errors import Cause, UsageError
from headway.export.reading.dequantize import dequantize_4bit
from headway.model.mixed_precision import MixedPrecisionCopies
from headway.model.quantized.layers import (
    Linear4Bit,
    dequantize_linears,
    quantize_linears,
    quantized_layers,
)

IDS = torch.arange(24)[None] % 7


def layer(*, bias: bool = True) -> tuple[nn.Linear, Linear4Bit]:
    torch.manual_seed(0)
    linear = nn.Linear(192, 80, bias=bias)
    return linear, Linear4Bit(linear, "cpu")


def test_the_weight_behind_the_codes_is_near_and_read_alike_without_bitsandbytes() -> None:
    linear, quantized = layer()
    dense = quantized.dense(torch.float32)
    assert 0.02 < float((dense - linear.weight.detach()).norm() / dense.norm()) < 0.12
    stored = {f"w.{k}": v for k, v in quantized._scales.as_dict(packed=True).items()}
    (state,) = (name for name in stored if "quant_state" in name)
    ours = dequantize_4bit({"w": quantized.weight, **stored}, "w", state)
    assert torch.allclose(dense, ours, atol=1e-6)
    assert "w.nested_absmax" in stored  # the scales are coded once more


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradient_are_those_of_that_weight(dtype: torch.dtype, bias: bool) -> None:
    linear, quantized = layer(bias=bias)
    linear.weight.data = quantized.dense(torch.float32)
    linear = linear.to(dtype)
    given = torch.randn(2, 5, 192).to(dtype)
    one, other = given.clone().requires_grad_(), given.clone().requires_grad_()
    out, expected = quantized(one), linear(other)
    assert out.dtype == dtype
    assert torch.equal(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(one.grad, other.grad)
    assert all(p.grad is None and not p.requires_grad for p in quantized.parameters())


def test_every_linear_layer_but_the_head() -> None:
    model = causal("llama", scale=1.0)
    assert quantize_linears(model, "cpu") == 14
    assert {name.rpartition(".")[2] for name, _ in quantized_layers(model)} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert type(model.lm_head) is nn.Linear


def test_a_bf16_twin_shares_the_codes() -> None:
    model = causal("llama", scale=1.0)
    quantize_linears(model, "cpu")
    model.requires_grad_(False)
    twin = MixedPrecisionCopies(model).model
    ours, theirs = dict(quantized_layers(model)), dict(quantized_layers(twin))
    assert ours.keys() == theirs.keys()
    assert all(layer is theirs[name] for name, layer in ours.items())
    assert twin(input_ids=IDS).logits.dtype == torch.bfloat16


def test_dequantized_it_computes_the_same() -> None:
    model: Any = causal("qwen2", scale=1.0).eval()
    quantize_linears(model, "cpu")
    before = model(input_ids=IDS).logits
    plain = copy.deepcopy(model)
    dequantize_linears(plain)
    assert not list(quantized_layers(plain))
    assert torch.equal(plain(input_ids=IDS).logits, before)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        quantize_linears(causal("gpt2"), "cpu")
    assert refused.value.cause is Cause.MODEL_UNSUPPORTED
