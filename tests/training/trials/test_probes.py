"""Equality probes: a model that leaks between packed documents is found, a sound one is not."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses
from tests.training.trial_models import DOCUMENTS, convolutions, leaky

from headway.base.documents import DocumentGroup, document_lengths
from headway.base.errors import Cause, UsageError
from headway.model import attention
from headway.model.attention_layout import AttentionLayout
from headway.model.forward import Forward
from headway.training.trials.probes import PackingTrial, longest_documents, try_packing

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
    assert try_packing(forward, micro).leaks
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
    assert tried == PackingTrial(leaks=False, has_custom_logits=False)


def test_b03_an_attention_across_documents_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def across(*tensors: Any, documents: AttentionLayout, **rest: Any) -> Any:
        whole = sum(group.num_tokens for group in documents.documents)
        return attend(*tensors, documents=AttentionLayout((DocumentGroup(whole),)), **rest)

    attend = attention.attend
    monkeypatch.setattr(attention, "attend", across)
    assert try_packing(Forward(causal("llama")), micro_of(*DOCUMENTS)).leaks


def loud_gemma() -> Any:
    """Gemma 2 caps its scores; with loud queries the cap matters."""
    model = causal("gemma2", head_dim=8, query_pre_attn_scalar=8)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight.data.mul_(20)
    return model


def test_capped_scores_are_computed_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = try_packing(Forward(loud_gemma()), micro_of(*DOCUMENTS))
    assert (trial.leaks, trial.why) == (False, "")
    uncapped = partial(attention.attend, softcap=None)
    monkeypatch.setattr(
        attention, "attend", lambda *args, **named: uncapped(*args, **named | {"softcap": None})
    )
    assert try_packing(Forward(loud_gemma()), micro_of(*DOCUMENTS)).leaks  # what it is for


OWN: dict[str, tuple[dict[str, Any], str]] = {
    "stablelm": ({}, "its attention is not told where documents begin"),
    "nemotron": ({}, "its attention is not told where documents begin"),
    "gptj": ({"n_embd": 16, "n_head": 2, "n_layer": 2, "rotary_dim": 4}, "its own attention"),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_model_that_cannot_run_packed_runs_separately_and_why_is_told(kind: str) -> None:
    config, why = OWN[kind]
    forward = Forward(causal(kind, **config))
    trial = try_packing(forward, micro_of(*DOCUMENTS))
    assert trial.leaks
    assert why in trial.why
    assert forward.runs_separately
    forward.loss(micro_of(*DOCUMENTS), 10).backward()


def test_gpt_neo_trains_rows_that_are_longer_together_than_its_context() -> None:
    config = {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    forward = Forward(causal("gpt_neo", max_position_embeddings=32, window_size=8, **config))
    micro = micro_of(20, 30)  # 50 tokens
    assert try_packing(forward, micro).leaks
    forward.loss(micro, 10).backward()


def test_an_encoder_is_refused() -> None:
    small = {"num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    encoder = Forward(causal("roberta", max_position_embeddings=64, hidden_size=16, **small))
    with pytest.raises(UsageError, match="roberta sees the tokens that it should predict") as error:
        try_packing(encoder, micro_of(*DOCUMENTS))
    assert error.value.cause is Cause.MODEL_UNSUPPORTED


def test_documents_alone_have_the_models_own_positions() -> None:
    config = {"max_position_embeddings": 64, "hidden_size": 16, "is_decoder": True}
    small = {"num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    model = causal("roberta", **config, **small).eval()  # its positions begin at 2
    forward = Forward(model)
    assert try_packing(forward, micro_of(*DOCUMENTS)).leaks
    ours, own = forward.losses(micro_of(12)), padded_losses(model, micro_of(12))
    assert torch.allclose(ours, own, atol=1e-5)


def test_a_model_that_fails_alone_too_raises_what_it_raised() -> None:
    model = causal("llama")
    model.model.layers[0].mlp = torch.nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        try_packing(Forward(model), micro_of(*DOCUMENTS))


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
    assert try_packing(forward, micro).leaks


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
    assert try_packing(Forward(model), micro_of(*DOCUMENTS)).leaks


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
