"""Is packing sound on this very model? And the few other things that are measured."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.helpers import causal, in_memory, micro_of, order_of, padded_losses, plan_of
from tests.training.prompted import OWNS, prompted
from torch import Tensor, nn

from headway.base.documents import DocumentGroup, document_lengths
from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.model import attention
from headway.model.attention_layout import AttentionLayout
from headway.model.forward import Forward
from headway.model.load import with_lora
from headway.runs.plan import Plan, Tried
from headway.training import calibrate
from headway.training.calibrate import (
    bf16_is_faster,
    longest_documents,
    peak_flops,
    peak_memory_bytes,
    settle,
    try_packing,
    typical,
)
from headway.training.proof import first_rows

DOCUMENTS = (1, 1, 3, 5, 9, 12)


class Running(nn.Module):
    """A layer that carries state along the row: each token is told of all before it."""

    def __init__(self, inside: nn.Module, share: float) -> None:
        super().__init__()
        self.inside, self.share = inside, share

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inside(hidden) + self.share * hidden.cumsum(dim=1)


def leaky(share: float = 0.1, scale: float = 5.0) -> Any:
    model = causal("llama", scale=scale)
    model.model.layers[0].mlp = Running(model.model.layers[0].mlp, share)
    return model


def convolutions(scale: float = 5.0) -> Any:
    return causal("lfm2", scale=scale, layer_types=["conv", "full_attention"])


KINDS: dict[str, Any] = {
    "a running sum": leaky,
    "convolutions": convolutions,
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
    assert try_packing(forward, micro).separately
    assert forward.runs_separately
    with torch.no_grad():
        losses = forward.losses(micro)
        alone = torch.cat([padded_losses(plain, one) for one in apart(micro)])
    assert torch.allclose(losses, alone, rtol=1e-4, atol=1e-4)


def apart(micro: Any) -> list[Any]:
    """Each document as a micro-batch of its own."""
    parts: list[Any] = []
    begin = 0
    for length in document_lengths(micro.documents):
        part = copy.copy(micro)
        inside = (micro.trained_at_M >= begin) & (micro.trained_at_M < begin + length)
        for name, value in {
            "ids_N": micro.ids_N[begin : begin + length],
            "trained_at_M": micro.trained_at_M[inside] - begin,
            "targets_M": micro.targets_M[inside],
            "documents": (DocumentGroup(length),),
        }.items():
            object.__setattr__(part, name, value)
        parts.append(part)
        begin += length
    return parts


@pytest.mark.parametrize("documents", [DOCUMENTS, (12,), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_a_sound_model_is_no_false_alarm(kind: str, documents: tuple[int, ...]) -> None:
    config = {"sliding_window": 4} if kind == "mistral" else {}
    tried = try_packing(Forward(causal(kind, **config)), micro_of(*documents))
    assert tried == Tried(separately=False, own_logits=False)


def test_b03_an_attention_across_documents_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def across(*tensors: Any, documents: AttentionLayout, **rest: Any) -> Any:
        whole = sum(group.num_tokens for group in documents.documents)
        return attend(*tensors, documents=AttentionLayout((DocumentGroup(whole),)), **rest)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", across)
    assert try_packing(Forward(causal("llama")), micro_of(*DOCUMENTS)).separately


def test_scores_that_ours_would_compute_otherwise_are_found() -> None:
    """Gemma 2 caps its scores, which ours does not: it shows in long documents alone."""
    model = causal("gemma2", head_dim=8, query_pre_attn_scalar=8)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data.mul_(20)
    assert try_packing(Forward(model), micro_of(*DOCUMENTS)).separately


@pytest.mark.parametrize("make", [lambda: leaky(3e-5, scale=1.0), lambda: convolutions(scale=1.5)])
def test_b03_a_leak_that_fresh_weights_hide_is_found(make: Any) -> None:
    """Weights near 0 give every token nearly one loss, whatever leaks."""
    model, micro = make(), micro_of(*DOCUMENTS)
    forward = Forward(model)
    with torch.no_grad():
        packed = forward.losses(micro)
        forward.run_separately()
        assert float((packed - forward.losses(micro)).abs().max()) < 2e-3
    forward.run_separately(False)
    assert try_packing(forward, micro).separately


def test_looking_leaves_everything_as_it_was() -> None:
    model = causal("llama").train()
    forward = Forward(model)
    before = torch.get_rng_state()
    try_packing(forward, micro_of(*DOCUMENTS))
    assert model.training
    assert not forward.runs_separately
    assert not forward.has_custom_logits
    assert attention.current_implementation(model) == attention.NAME
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_gives_no_number_leaks() -> None:
    model = causal("llama")
    model.model.norm.weight.data.fill_(float("nan"))
    assert try_packing(Forward(model), micro_of(*DOCUMENTS)).separately


# ---- what is tried once ------------------------------------------------------------------------


def planned(**given: Any) -> Plan:
    return plan_of(in_memory(300, 300), **given)


def base_and_adapters() -> Any:
    model: Any = with_lora(
        causal("llama", scale=1.0), r=2, alpha=4, dropout=0.0, target_modules=("q_proj",), seed=1
    )
    return model


@pytest.mark.parametrize("faster", [True, False])
def test_the_number_format_is_the_one_that_is_faster_here(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "bf16_is_faster", lambda _: faster)
    forward, dtype = Forward(causal("llama", scale=1.0)), ("float32", "bfloat16")[faster]
    settled, findings = settle(planned(bf16=None), forward, micro_of(*DOCUMENTS))
    assert settled.machine.compute_dtype == dtype
    assert (forward.model is forward.weights) == (not faster)
    assert settled.tried == Tried(separately=False, own_logits=False)
    adjusted = planned(bf16=None).machine.compute_dtype != dtype
    assert [f.what for f in findings or ()] == (
        [f"computes in {dtype}, which is faster here"] if adjusted else []
    )


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_number_format_that_was_asked_for_is_not_measured(
    bf16: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "bf16_is_faster", None)
    forward = Forward(causal("llama", scale=1.0))
    settled, findings = settle(planned(bf16=bf16), forward, micro_of(*DOCUMENTS))
    assert (settled.machine.compute_dtype, findings) == (dtype, ())


@pytest.mark.parametrize("make", [base_and_adapters, lambda: causal("llama", scale=1.0)])
def test_rounding_that_shows_is_not_computed_with(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, micro = make(), micro_of(*DOCUMENTS)
    before = copy.deepcopy(model.state_dict())
    forward = Forward(model)
    losses = forward.losses(micro)
    monkeypatch.setattr(calibrate, "_ROUNDING", 1e-9)
    settled, findings = settle(planned(bf16=True), forward, micro)
    assert settled.machine.compute_dtype == "float32"
    assert [f.what for f in findings or ()] == ["computes in float32: rounding shows"]
    assert torch.equal(forward.losses(micro), losses)
    after = forward.weights.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("num_tokens", "lengths"),
    [(0, [9, 12]), (25, [9, 12]), (26, [5, 9, 12]), (1000, [*DOCUMENTS])],
)
def test_the_longest_documents_stay_what_they_are(num_tokens: int, lengths: list[int]) -> None:
    forward, micro = Forward(causal("llama", scale=1.0)), micro_of(*DOCUMENTS)
    kept = longest_documents(micro, num_tokens)
    assert [group.length for group in kept.documents] == lengths
    losses = forward.losses(micro)[-len(kept.targets_M) :]
    torch.testing.assert_close(forward.losses(kept), losses, atol=1e-5, rtol=0)


def test_rounding_to_no_number_is_not_computed_with() -> None:
    model = causal("llama", scale=1.0)
    forward = Forward(model)
    compute_in = forward.compute_in

    def spoilt(dtype: torch.dtype) -> None:
        compute_in(dtype)
        if dtype != torch.float32:
            next(iter(forward.model.get_output_embeddings().parameters())).data.fill_(float("nan"))

    forward.compute_in = spoilt  # type: ignore[method-assign]
    settled, _ = settle(planned(bf16=True), forward, micro_of(*DOCUMENTS))
    assert settled.machine.compute_dtype == "float32"
    assert bool(forward.losses(micro_of(*DOCUMENTS)).isfinite().all())


@pytest.mark.parametrize("separately", [True, False])
@pytest.mark.parametrize("own_logits", [True, False])
def test_what_is_settled_is_never_tried_again(
    separately: bool, own_logits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = settle(planned(bf16=True), Forward(causal("llama", scale=1.0)), micro_of(*DOCUMENTS))[0]
    settled = replace(once, tried=Tried(separately, own_logits))
    for name in ("bf16_is_faster", "try_packing", "_mean_loss"):
        monkeypatch.setattr(calibrate, name, None)
    forward = Forward(causal("llama", scale=1.0))
    plan, findings = settle(settled, forward, micro_of(*DOCUMENTS))
    assert (plan, findings) == (settled, None)
    assert (forward.runs_separately, forward.has_custom_logits) == (separately, own_logits)
    assert forward.model is not forward.weights
    name = "sdpa" if separately else attention.NAME
    assert attention.current_implementation(forward.model) == name


def test_a_model_that_leaks_is_told() -> None:
    forward = Forward(leaky())
    settled, findings = settle(planned(bf16=False), forward, micro_of(*DOCUMENTS))
    assert settled.tried == Tried(separately=True, own_logits=False)
    assert [f.what for f in findings or ()] == [
        "layers of this model see across documents: each runs by itself, more slowly"
    ]


def test_both_number_formats_are_measured_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: dict[str, float] = {}
    monkeypatch.setattr(calibrate, "measured", notes.get)
    monkeypatch.setattr(calibrate, "remember", notes.__setitem__)
    monkeypatch.setattr(calibrate, "bf16_gain", lambda _: 0.0)
    assert bf16_is_faster(1)
    assert len(notes) == 2
    assert all(rate > 1e6 for rate in notes.values())
    monkeypatch.setattr(calibrate, "bf16_gain", lambda _: 1e9)
    assert not bf16_is_faster(1)


def test_a_first_product_that_compiles_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take longer than all that is measured: bf16 would be slower than fp32."""
    notes: dict[str, float] = {}
    monkeypatch.setattr(calibrate, "measured", notes.get)
    monkeypatch.setattr(calibrate, "remember", notes.__setitem__)
    clock = SimpleNamespace(now_s=0.0, seen=set[torch.dtype]())
    seconds = {torch.bfloat16: 1e-3, torch.float32: 2e-3}

    def product(a: Tensor, _: Tensor) -> Tensor:
        clock.now_s += seconds[a.dtype] if a.dtype in clock.seen else 0.3
        clock.seen.add(a.dtype)
        return a

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(perf_counter=lambda: clock.now_s))
    assert bf16_is_faster(1)
    assert sorted(notes.values()) == pytest.approx([2 * 512**3 / 2e-3, 2 * 512**3 / 1e-3])
    clock.seen.clear()
    notes.clear()
    assert peak_flops("cpu", torch.bfloat16, 1) == pytest.approx(2 * 1024**3 / 1e-3)


# ---- rows that begin alike ---------------------------------------------------------------------

NOT_SHARED = "rows share no beginnings: this model computes them anew for each row"
FAMILIES = {  # tokens that all begin with, and what each of 32 rows has of its own
    "usual": (200, OWNS),
    "short beginnings": (40, [40] * 32),
    "some long": (500, [1001] * 4 + [8] * 28),
    "some longer": (200, [1900] * 4 + [8] * 28),
}


class Drawing(nn.Module):
    """A layer whose dropout no config tells of."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, hidden: Tensor) -> Tensor:
        return nn.functional.dropout(self.inside(hidden), 0.5, self.training)


def tried_on(model: Any, store: Store) -> tuple[Plan, list[str]]:
    """What is settled of a plan to share, and what is said of it."""
    plan = plan_of(store, batch_size=32)
    assert plan.shares
    rows = first_rows(rows_of(store, plan.data.max_length), order_of(plan, store), plan)
    settled, findings = settle(plan, Forward(model), *rows)
    assert settled.steps.share_prefixes
    assert all(finding.kind == "adjusted" for finding in findings or ())
    return settled, [finding.what for finding in findings or ()]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_sound_model_shares(kind: str, tmp_path: Path) -> None:
    model = causal("llama", scale=1.0, max_position_embeddings=4096)
    settled, said = tried_on(model, prompted(tmp_path, *FAMILIES[kind]))
    assert said == []
    assert settled.tried == Tried(separately=False, own_logits=False, not_shared=False)
    assert settled.shares
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_draws_by_chance_shares_nothing(training: bool, tmp_path: Path) -> None:
    model = causal("llama", scale=1.0).train(training)
    model.model.layers[0].mlp = Drawing(model.model.layers[0].mlp).train(training)
    before = torch.get_rng_state()
    settled, said = tried_on(model, prompted(tmp_path))
    assert said == [NOT_SHARED]
    assert settled.tried == Tried(separately=False, own_logits=False, not_shared=True)
    assert not settled.shares
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_attention_that_forgets_the_beginning_is_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(*tensors: Any, documents: AttentionLayout, **rest: Any) -> Any:
        alone = AttentionLayout([replace(group, prefix=None) for group in documents.documents])
        return attend(*tensors, documents=alone, **rest)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", forgets)
    model = causal("llama", max_position_embeddings=4096)
    settled, said = tried_on(model, prompted(tmp_path, *FAMILIES[kind]))
    assert said == [NOT_SHARED]
    assert not settled.shares


def test_a_model_that_leaks_is_not_tried_on_sharing(tmp_path: Path) -> None:
    model = leaky()
    model.model.layers[1].mlp = Drawing(model.model.layers[1].mlp)
    settled, said = tried_on(model, prompted(tmp_path))
    assert len(said) == 1
    assert "see across documents" in said[0]
    assert settled.tried == Tried(separately=True, own_logits=False, not_shared=False)
    assert not settled.shares


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
