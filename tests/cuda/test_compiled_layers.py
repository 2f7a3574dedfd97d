"""Compiled layers have the losses and gradients of uncompiled ones, and are compiled once.

Not yet run on a GPU. `make gpu` runs these there; everywhere else they run on the CPU.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cuda.conftest import on
from tests.helpers import causal, micro_of, sharing
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend

from headway.model.attention_layout import _LAYOUTS
from headway.model.forward import Forward
from headway.model.kernels import fused_ops
from headway.model.kernels.compile_level import CompileLevel
from headway.model.load import with_lora
from headway.training.setup import checkpoint_activations

# Torch hides this warning of its own by a hook, which pytest's errors come before.
pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("ignore:The .grad attribute")]
WINDOW = {
    "head_dim": 8,
    "sliding_window": 5,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
# Of each kind: its config, and how many graphs its layers need: one for each kind of layer.
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama": ("llama", {}, 1),
    "llama, adapters, recomputed": ("llama", {}, 1),
    "llama, adapters": ("llama", {}, 2),  # the first layer's input has no gradient
    "llama in bf16": ("llama", {}, 1),
    "qwen3": ("qwen3", {"head_dim": 8}, 1),
    "phi3": ("phi3", {}, 1),
    "gemma3, windows": ("gemma3_text", WINDOW, 2),
}
# Compiled to C++ on a CPU, which takes seconds; the others are traced there, and run by Python.
WHOLLY_COMPILED = "llama"
FAR = {torch.float32: 1e-5, torch.bfloat16: 6e-2}


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where torch keeps what it compiles in these tests, and nothing else."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, device: str, name: str) -> Iterator[list[None]]:
    """An entry for each graph that is made of a layer."""
    compiler, made = torch.compile, list[None]()
    wholly = device == "cuda" or name == WHOLLY_COMPILED
    run = lookup_backend("inductor" if wholly else "aot_eager")

    def counted(graph: Any, inputs: Any) -> Any:
        made.append(None)
        return run(graph, inputs)

    def compile_with_it(function: Any, **options: Any) -> Any:
        of_layer = function.__name__ == "forward"
        return compiler(function, **options | {"backend": counted if of_layer else run})

    monkeypatch.setattr(torch, "compile", compile_with_it)
    fused_ops._compiled.cache_clear()
    yield made
    fused_ops._compiled.cache_clear()


def made(name: str, device: str) -> Forward:
    kind, config, _ = KINDS[name]
    scale = 1.0 if "bf16" in name else 2.0
    model = causal(kind, scale=scale, max_position_embeddings=512, **config)
    if "adapters" in name:
        model = with_lora(model, r=4, alpha=8, dropout=0.0, target_modules=("all-linear",), seed=1)
    if "recomputed" in name:
        checkpoint_activations(model)
    forward = Forward(model.to(device))
    if "bf16" in name:
        forward.compute_in(torch.bfloat16)
    forward.model.train()
    return forward


def gradients(forward: Forward, micro: Any, level: CompileLevel) -> tuple[float, list[Tensor]]:
    forward.compile(level)
    loss = forward.loss(micro, 7)
    loss.backward()
    forward.collect_gradients()
    found = [p.grad.clone() for p in forward.weights.parameters() if p.grad is not None]
    forward.weights.zero_grad()
    return float(loss.detach()), found


@pytest.mark.parametrize("name", KINDS)
def test_loss_and_gradients_are_the_uncompiled_ones(
    name: str, device: str, graphs: list[None]
) -> None:
    forward = made(name, device)
    most = FAR[torch.bfloat16 if "bf16" in name else torch.float32]
    once, _ = sharing((11, (2, 3, 9)), (5, (1, 9)))
    for micro in (micro_of(2, 4, 4, 11), micro_of(30, 40, every=3), once, micro_of(300)):
        given = on(micro, device)
        loss, wanted = gradients(forward, given, CompileLevel.NOTHING)
        ours, found = gradients(forward, given, CompileLevel.LAYERS)
        assert ours == pytest.approx(loss, rel=most)
        apart = sum(float((a - b).square().sum()) for a, b in zip(found, wanted, strict=True))
        norm = sum(float(t.square().sum()) for t in wanted)
        assert norm > 0
        assert (apart / norm) ** 0.5 < most
        assert len(graphs) == KINDS[name][2]  # other lengths and prefixes take nothing new
    gc.collect()
    assert not _LAYOUTS
