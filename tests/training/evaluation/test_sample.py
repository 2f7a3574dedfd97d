"""Text between steps: it leaves no trace, ends where it should, and works on every kind."""

from itertools import islice
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of
from tests.training.dispatched import HostReads

from headway.model.attention import NAME, current_implementation
from headway.model.forward import Forward
from headway.model.load import with_lora
from headway.training.evaluation.sample import generate, inference_mode_restored, sample_token


def write(model: Any, prompt: tuple[int, ...] = (5, 6, 7), **options: Any) -> list[int]:
    options = {"num_tokens": 12, "end_ids": [], "temperature": 0.0} | options
    with inference_mode_restored(model, options.pop("attention", current_implementation(model))):
        return list(generate(model, prompt, **options))


def likeliest(model: Any, prompt: tuple[int, ...], num: int) -> list[int]:
    """Without a cache: the whole text anew for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {}),
        ("gpt2", {}),
        ("mistral", {"sliding_window": 4}),
        ("qwen3", {"head_dim": 8}),
        ("falcon", {}),
    ],
)
def test_greedy_text_is_the_likeliest_one(kind: str, config: dict[str, Any]) -> None:
    model = causal(kind, **config).eval()
    wanted = likeliest(model, (5, 6, 7), 12)
    assert write(model) == wanted == write(model)


def test_text_from_adapters() -> None:
    plain = causal("llama").eval()
    before = likeliest(plain, (5, 6, 7), 12)
    model: Any = with_lora(plain, r=2, alpha=4, dropout=0.5, target_modules=("all-linear",), seed=1)
    assert write(model) == before  # B is still 0
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.5)
    assert write(model) == likeliest(model.eval(), (5, 6, 7), 12) != before


def test_the_end_token_ends_it_and_is_not_given_out() -> None:
    model = causal("llama")
    text = write(model)
    end = text[4]
    assert write(model, end_ids=[end]) == text[: text.index(end)]


def test_at_most_so_many_tokens() -> None:
    assert len(write(causal("llama"), num_tokens=3)) == 3
    assert write(causal("llama"), num_tokens=0) == []


def test_the_context_is_never_left() -> None:
    """GPT-2's positions end: a longer prompt keeps its last tokens."""
    model = causal("gpt2", max_position_embeddings=8)
    assert len(write(model, (1, 2, 3), num_tokens=50)) == 5
    assert len(write(model, tuple(range(100)), num_tokens=50)) == 1


def test_draws_are_the_seeds_own() -> None:
    model = causal("llama", scale=1.0)
    torch.manual_seed(1)
    first = write(model, temperature=1.0, seed=3, num_tokens=20)
    torch.manual_seed(2)
    assert write(model, temperature=1.0, seed=3, num_tokens=20) == first
    assert write(model, temperature=1.0, seed=4, num_tokens=20) != first


def test_only_the_likeliest_are_drawn() -> None:
    logits = torch.arange(100.0) / 100
    draws = torch.Generator().manual_seed(0)
    assert {int(sample_token(logits, 1.0, 3, draws)) for _ in range(200)} == {97, 98, 99}
    assert int(sample_token(logits, 0.0, 3, draws)) == 99
    assert int(sample_token(logits[:2], 1.0, 50, draws)) in (0, 1)  # fewer tokens than top_k


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_device_is_read_once_for_each_token_and_given_the_prompt_alone(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    model, make, given = causal("llama"), torch.tensor, list[Any]()

    def tensor(data: Any, *args: Any, **options: Any) -> torch.Tensor:
        given.extend([data] if isinstance(data, list) and data else [])  # a cache is empty
        return make(data, *args, **options)

    monkeypatch.setattr(torch, "tensor", tensor)
    with HostReads() as reads:
        tokens = write(model, temperature=temperature)
    assert reads.found == ["_local_scalar_dense"] * len(tokens) == ["_local_scalar_dense"] * 12
    assert given == [[[5, 6, 7]]]


def test_each_token_is_a_sign_of_life_and_time_is_limited() -> None:
    model, ticks = causal("llama"), list[int]()
    write(model, on_token=lambda: ticks.append(1))
    assert len(ticks) == 12
    assert write(model, limit_s=-1.0) == []


def test_tokens_come_one_by_one() -> None:
    model = causal("llama")
    with inference_mode_restored(model, "sdpa"):
        tokens = generate(model, (1,), num_tokens=1000, end_ids=[], temperature=0.0)
        assert len(list(islice(tokens, 2))) == 2


# ---- leaving no trace --------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_g04_mode_attention_and_chance_are_given_back(training: bool, fails: bool) -> None:
    model = causal("llama").train(training)
    Forward(model)
    before = torch.get_rng_state()
    try:
        with inference_mode_restored(model, "sdpa"):
            assert not model.training
            assert current_implementation(model) == "sdpa"
            assert not torch.is_grad_enabled()
            torch.rand(3)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert model.training is training
    assert current_implementation(model) == NAME
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_are_the_same_after_writing() -> None:
    model, micro = causal("mistral", sliding_window=4), micro_of(3, 9)
    forward = Forward(model)
    with torch.no_grad():
        before = forward.losses(micro)
        write(model, attention=forward.original_attention)
        assert torch.equal(forward.losses(micro), before)
