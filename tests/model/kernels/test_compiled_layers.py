"""Compiled layers: which they are, when they run compiled, and how they are put back.

That they compute the same is in tests/cuda/test_compiled_layers.py.
"""

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of
from torch import Tensor, nn

from headway.model.forward import Forward
from headway.model.kernels.compile_level import CompileLevel
from headway.model.kernels.compiled_layers import (
    CannotCompileLayersError,
    CompiledLayers,
    layers_of,
)
from headway.training.setup import checkpoint_activations

Compiled = list[dict[str, Any]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """What was given to a compiler that compiles nothing, with a count of the calls."""
    found = Compiled()

    def compile_nothing(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        given = options | {"function": function, "calls": 0}
        found.append(given)

        def called(*args: Any, **kwargs: Any) -> Any:
            given["calls"] += 1
            return function(*args, **kwargs)

        return called

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return found


def test_a_class_of_layers_is_compiled_once_as_one_graph(compiled: Compiled) -> None:
    model = causal("llama")
    CompiledLayers(model).compile(True)
    (given,) = compiled
    assert given["fullgraph"] is True
    own, plain = given["function"], type(model.model.layers[0]).forward.__wrapped__
    assert own.__code__ == plain.__code__
    assert own.__code__ is not plain.__code__  # with what is compiled for other models


def test_adapters_are_no_layers_and_experts_neither() -> None:
    model = causal("qwen3_moe", head_dim=8, num_experts=4, moe_intermediate_size=8)
    assert layers_of(model) == list(model.model.layers)


@pytest.mark.parametrize("recomputes", [False, True])
def test_layers_run_compiled_where_they_are_trained(recomputes: bool, compiled: Compiled) -> None:
    model = causal("llama")
    if recomputes:
        checkpoint_activations(model)
    forward = Forward(model)
    model.train()
    forward.compile(CompileLevel.LAYERS)
    layers = len(model.model.layers)
    loss = forward.loss(micro_of(3, 9), 5)
    assert compiled[0]["calls"] == layers
    loss.backward()
    assert compiled[0]["calls"] == (2 if recomputes else 1) * layers


def test_what_is_only_looked_at_and_a_single_token_run_uncompiled(compiled: Compiled) -> None:
    forward, micro = Forward(causal("llama")), micro_of(3, 9)
    with torch.no_grad():
        before = forward.losses(micro)
        forward.compile(CompileLevel.LAYERS)
        assert torch.equal(forward.losses(micro), before)
    forward.loss(micro_of(1), 1).backward()
    assert compiled[0]["calls"] == 0


def test_layers_are_put_back_and_not_compiled_again(compiled: Compiled) -> None:
    forward, micro = Forward(causal("llama")), micro_of(3, 9)
    for level in (CompileLevel.LAYERS, CompileLevel.OPERATIONS, CompileLevel.LAYERS):
        forward.compile(level)
    forward.loss(micro, 5)
    assert [given["calls"] for given in compiled] == [2]
    forward.compile(CompileLevel.NOTHING)
    assert all("forward" not in vars(layer) for layer in layers_of(forward.model))


def test_a_twin_in_bf16_is_compiled_and_its_original_is_not_run(compiled: Compiled) -> None:
    forward = Forward(causal("llama", scale=1.0))
    forward.compile(CompileLevel.LAYERS)
    forward.compute_in(torch.bfloat16)
    for layer, twin in zip(layers_of(forward.weights), layers_of(forward.model), strict=True):
        assert twin.forward.__self__ is twin
        assert layer.forward.__self__ is layer
    forward.loss(micro_of(3, 9), 5).backward()
    assert [given["calls"] for given in compiled] == [0, 2]
    again = copy.deepcopy(forward.model)
    assert all(layer.forward.__self__ is layer for layer in layers_of(again))


@pytest.mark.usefixtures("compiled")
def test_layers_that_somebody_changed_are_not_compiled() -> None:
    model = causal("llama")
    layer = model.model.layers[1]

    def changed(self: Any, hidden: Tensor, **_: Any) -> Tensor:
        return hidden

    layer.forward = MethodType(changed, layer)
    with pytest.raises(CannotCompileLayersError, match="a forward of its own"):
        CompiledLayers(model).compile(True)
    assert layer.forward.__func__ is changed


def test_a_model_without_layers_cannot_compile_them() -> None:
    with pytest.raises(CannotCompileLayersError, match="no list of layers"):
        CompiledLayers(nn.Linear(2, 2)).compile(True)


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_are_not_chosen_by_a_clock_where_the_same_bits_are_wanted(
    deterministic: bool, compiled: Compiled
) -> None:
    torch.use_deterministic_algorithms(deterministic)
    try:
        CompiledLayers(causal("llama")).compile(True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert compiled[0]["options"] == ({"deterministic": True} if deterministic else {})
