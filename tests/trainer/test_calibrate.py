"""Is packing sound on this very model? And the few other things that are measured."""

import copy
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses
from torch import Tensor, nn

from headway.model import attention
from headway.model.loss import Forward
from headway.trainer import calibrate
from headway.trainer.calibrate import peak_flops, peak_memory_bytes, try_packing, typical

DOCUMENTS = (1, 1, 3, 5, 9, 12)


class Running(nn.Module):
    """A layer that carries state along the row: each token is told of all before it."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inside(hidden) + 0.1 * hidden.cumsum(dim=1)


def leaky() -> Any:
    model = causal("llama")
    model.model.layers[0].mlp = Running(model.model.layers[0].mlp)
    return model


KINDS: dict[str, Any] = {
    "a running sum": leaky,
    "convolutions": lambda: causal("lfm2", layer_types=["conv", "full_attention"]),
    "attention that is its own": lambda: causal("falcon"),
    "a state-space model": lambda: causal("mamba"),
}


@pytest.mark.parametrize("documents", [DOCUMENTS, (5, 5), (12,)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_b03_a_model_that_leaks_is_found_and_run_separately(
    kind: str, documents: tuple[int, ...]
) -> None:
    model, micro = KINDS[kind](), micro_of(*documents)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    assert try_packing(forward, micro)
    forward.run_separately()
    with torch.no_grad():
        losses = forward.losses(micro)
        alone = torch.cat([padded_losses(plain, one) for one in apart(micro)])
    assert torch.allclose(losses, alone, rtol=1e-4, atol=1e-4)


def apart(micro: Any) -> list[Any]:
    """Each document as a micro-batch of its own."""
    parts: list[Any] = []
    begin = 0
    for length in [n for n, num, _ in micro.documents for _ in range(num)]:
        part = copy.copy(micro)
        inside = (micro.trained_at_M >= begin) & (micro.trained_at_M < begin + length)
        for name, value in {
            "ids_N": micro.ids_N[begin : begin + length],
            "trained_at_M": micro.trained_at_M[inside] - begin,
            "targets_M": micro.targets_M[inside],
            "documents": ((length, 1),),
        }.items():
            object.__setattr__(part, name, value)
        parts.append(part)
        begin += length
    return parts


@pytest.mark.parametrize("documents", [DOCUMENTS, (12,), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_a_sound_model_is_no_false_alarm(kind: str, documents: tuple[int, ...]) -> None:
    config = {"sliding_window": 4} if kind == "mistral" else {}
    assert not try_packing(Forward(causal(kind, **config)), micro_of(*documents))


def test_b03_an_attention_across_documents_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def across(*tensors: Any, documents: attention.Groups, **rest: Any) -> Any:
        whole = ((sum(n * m for n, m in documents), 1),)
        return attend(*tensors, documents=whole, **rest)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", across)
    assert try_packing(Forward(causal("llama")), micro_of(*DOCUMENTS))


def test_scores_that_ours_would_compute_otherwise_are_found() -> None:
    """Gemma 2 caps its scores, which ours does not: it shows in long documents alone."""
    model = causal("gemma2", head_dim=8, query_pre_attn_scalar=8)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data.mul_(20)
    assert try_packing(Forward(model), micro_of(*DOCUMENTS))


def test_looking_leaves_everything_as_it_was() -> None:
    model = causal("llama").train()
    forward = Forward(model, torch.bfloat16)
    before = torch.get_rng_state()
    try_packing(forward, micro_of(*DOCUMENTS))
    assert model.training
    assert forward.compute_dtype == torch.bfloat16
    assert not forward.separately
    assert attention.implementation(model) == attention.NAME
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_gives_no_number_leaks() -> None:
    model = causal("llama")
    model.model.norm.weight.data.fill_(float("nan"))
    assert try_packing(Forward(model), micro_of(*DOCUMENTS))


# ---- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3.0), ([1.0, 9.0, 2.0], 2.0), ([4.0, 1.0, 3.0, 2.0], 2.5)]
)
def test_what_is_typical_is_the_median(values: list[float], middle: float) -> None:
    assert typical(values) == middle


def test_memory_is_in_bytes() -> None:
    import psutil

    assert psutil.Process().memory_info().rss <= peak_memory_bytes("cpu") < 2**40


def test_the_machines_peak_is_the_best_that_any_run_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: dict[str, float] = {}
    monkeypatch.setattr(calibrate, "measured", notes.get)
    monkeypatch.setattr(calibrate, "remember", notes.__setitem__)
    monkeypatch.setattr(calibrate, "_PEAK_S", 0.01)
    found = peak_flops("cpu", torch.float32, 1)
    assert found > 1e8
    assert list(notes.values()) == [found]
    (what,) = notes
    notes[what] = 1e18  # a machine that was less busy then
    assert peak_flops("cpu", torch.float32, 1) == 1e18
