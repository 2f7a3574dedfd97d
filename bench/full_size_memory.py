"""Peak memory of a GPU's step at full size, counted on tensors that have none.

    python bench/full_size_memory.py [SHAPE]

Needs no GPU: torch's fake tensors have a shape, a number format and a device, but no bytes. The
step is Headway's own, with the operations it would ask of a GPU; the storages that are alive are
counted operation by operation, and the highest count stands beside what the plan's memory model
says. What a GPU adds is not seen: workspaces of its libraries, and gaps between tensors.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import report
import torch
from step_memory import LORA, WAYS, WITHIN, Case, LiveBytes, Peak, estimate
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from headway.base.documents import DocumentGroup
from headway.base.units import size
from headway.data.batching.batches import MicroTensors
from headway.model.forward import Forward
from headway.model.kernels import varlen
from headway.model.load import trainable, with_lora
from headway.model.quantized.layers import quantize_linears
from headway.runs.plan import LearningPlan
from headway.training.optimizer import hidden_matrices, make_optimizer
from headway.training.setup import checkpoint_activations

TOKENS = 2048  # of a document, of which a micro-batch has two
LEARNING = LearningPlan("adamw", 1e-4, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
# Hidden size, intermediate size, layers, heads, heads of keys, vocabulary: the shapes of
# Qwen 2.5 0.5B, TinyLlama and Llama 3.1 8B, and one that takes a second.
SHAPES = {
    "7M": (256, 704, 4, 4, 2, 8192),
    "0.5B": (896, 4864, 24, 14, 2, 151_936),
    "1.1B": (2048, 5632, 22, 32, 4, 32_000),
    "8B": (4096, 14_336, 32, 32, 8, 128_256),
}
_aten = torch.ops.aten
# What would be read from a device to decide what comes next: that kernels agree.
_DECIDED = {_aten.allclose.default: True, _aten.equal.default: True}


def config_of(shape: str) -> dict[str, Any]:
    """A Llama's config.json, as plain values."""
    names = "hidden_size intermediate_size num_hidden_layers num_attention_heads"
    names += " num_key_value_heads vocab_size"
    sizes = dict(zip(names.split(), SHAPES[shape], strict=True))
    head_dim = sizes["hidden_size"] // sizes["num_attention_heads"]
    plain = {"model_type": "llama", "max_position_embeddings": 4096, "tie_word_embeddings": False}
    return plain | sizes | {"head_dim": head_dim}


CASES = tuple(Case(way, **given) for way, given in WAYS)


def measure(shapes: list[str], cases: tuple[Case, ...] = CASES) -> Iterator[Peak]:
    """Two steps of each shape and case: the peak of the second, beside the estimate.

    Left out are fp32, in which torch picks another attention kernel on a fake device than on a
    GPU, and moments in 8 bits, whose kernels have no fake.
    """
    for shape in shapes:
        for case in cases:
            if case.dtype == "bfloat16" and case.optim == "adamw":
                peak = actual(case, config_of(shape))
                estimated = estimate(case, "cuda", config_of(shape), (2, TOKENS))
                yield Peak(f"{shape} {case.name}", estimated, peak)


def actual(case: Case, config: dict[str, Any]) -> int:
    """The most bytes of tensors that were alive in a step."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        made = AutoConfig.for_model(**config)
        model: Any = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    on_gpu = mock.patch.object(varlen, "_is_on_capable_gpu", _is_bf16)
    live = _FakeStep()
    with on_gpu, FakeTensorMode(allow_non_fake_inputs=True), live:
        step = _prepared(case, model)
        step()  # moments, and what is made once
        live.peak = live.now
        step()
        return live.peak


def _is_bf16(query: Any) -> bool:
    return query.dtype == torch.bfloat16


class _FakeStep(LiveBytes):
    """Counts live bytes, and answers for a device what it would be asked."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DECIDED:
            return _DECIDED[func]
        if func is _aten._local_scalar_dense.default:  # noqa: SLF001 - `item`
            return 1.0 if args[0].is_floating_point() else 1
        return super().__torch_dispatch__(func, types, args, kwargs)


def _prepared(case: Case, model: Any) -> Callable[[], None]:
    """A step of two micro-batches, of a model on the meta device."""
    _put_on_device(model)
    if case.in_4bit:
        quantize_linears(model, "cpu")
    if case.lora:
        targets, dropout = LORA.target_modules, LORA.dropout
        with torch.device("meta"):
            model = with_lora(
                model, r=LORA.r, alpha=LORA.alpha, dropout=dropout, target_modules=targets, seed=1
            )
        _put_on_device(model)
    model.train()
    if case.checkpointed:
        checkpoint_activations(model)
    forward = Forward(model)
    forward.run_separately(False)
    forward.compute_in(getattr(torch, case.dtype))
    forward.release_exact_weights()
    optimizer = make_optimizer(trainable(model), LEARNING, hidden_matrices(model))
    micro = _micro()

    def step() -> None:
        for _ in range(2):
            forward.loss(micro, 2 * len(micro.targets_M)).backward()
            forward.collect_gradients()
        optimizer.step()
        forward.refresh_copies()
        optimizer.zero_grad(set_to_none=True)

    return step


def _put_on_device(model: nn.Module) -> None:
    """Replace every tensor on the meta device by a fake one; shared ones stay shared."""
    fakes: dict[int, Any] = {}
    modules: Any = model.modules()
    for module in modules:
        for tensors in (module._parameters, module._buffers):  # noqa: SLF001 - in place
            for name, tensor in tensors.items():
                if tensor is None or tensor.device.type != "meta":
                    continue
                if id(tensor) not in fakes:
                    fake: Any = torch.empty(tensor.shape, dtype=tensor.dtype)
                    if isinstance(tensor, nn.Parameter):
                        fake = nn.Parameter(fake, requires_grad=tensor.requires_grad)
                    fakes[id(tensor)] = fake
                tensors[name] = fakes[id(tensor)]


def _micro() -> MicroTensors:
    """Two documents of `TOKENS`, all trained but the first token."""
    num, trained = 2 * TOKENS, 2 * (TOKENS - 1)
    return MicroTensors(
        rows_R=np.arange(2),
        ids_N=torch.zeros(num, dtype=torch.int64),
        positions_N=torch.zeros(num, dtype=torch.int64),
        trained_at_M=torch.zeros(trained, dtype=torch.int64),
        targets_M=torch.zeros(trained, dtype=torch.int64),
        documents=(DocumentGroup(TOKENS, count=2),),
        host_trained_at_M=np.zeros(trained, dtype=np.int64),
    )


def main(arguments: list[str]) -> int:
    """Measure, print and write; fails where an estimate is off by more than `WITHIN`."""
    # Norms of another kind are told apart by trying, which a fake tensor reports as an error.
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    peaks: list[Peak] = []
    for peak in measure(arguments or list(SHAPES)):
        peaks.append(peak)
        numbers = f"{size(peak.estimated):>9} {size(peak.actual):>9} {peak.ratio:5.2f}"
        print(f"{peak.name:28} {numbers}", flush=True)
    if not arguments:
        head = {"machine": report.machine(), "versions": report.versions()}
        rows = [asdict(peak) | {"ratio": round(peak.ratio, 3)} for peak in peaks]
        place = (
            Path(__file__).parent / "results" / f"{date.today().isoformat()}-full-size-memory.json"
        )
        place.write_text(json.dumps(head | {"peaks": rows}, indent=2) + "\n")
    return 0 if all(abs(peak.ratio - 1) <= WITHIN for peak in peaks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
