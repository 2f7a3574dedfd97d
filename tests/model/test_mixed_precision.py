"""L06: what is too small for bf16 is not lost, whatever is computed in it."""

import copy
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of
from torch import Tensor, nn

from headway.model.forward import Forward
from headway.model.load import trainable, with_lora
from headway.model.mixed_precision import MixedPrecisionCopies

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gemma3_text, tied": {"head_dim": 8, "tie_word_embeddings": True},
    "olmo2": {},
}
MICRO = micro_of(2, 4, 4, 11, every=1)


def made(kind: str, scale: float = 1.0) -> Any:
    return causal(kind.split(",")[0], scale=scale, **KINDS[kind])


def adapted(scale: float = 1.0) -> Any:
    wrapped: Any = with_lora(
        causal("llama", scale=scale), r=2, alpha=4, dropout=0.0, target_modules=("q_proj",), seed=1
    )
    for name, p in wrapped.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.1)
    return wrapped


def in_bf16(model: Any) -> Forward:
    forward = Forward(model)
    forward.compute_in(torch.bfloat16)
    return forward


def stepped(forward: Forward) -> None:
    loss = forward.loss(MICRO, len(MICRO.targets_M))
    loss.backward()
    forward.collect_gradients()


class Ones(nn.Module):
    """Weights that an update of 1e-4 does not move in bf16, whose step at 1 is 2**-7 or 2**-8."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(8, 8, bias=False)
        self.inside.weight.data.fill_(1.0)

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, given: Tensor) -> Tensor:
        return self.inside(given).float().sum()


def moved(model: Ones, computes: nn.Module, copies: MixedPrecisionCopies | None) -> float:
    """How far 100 updates of 1e-4 bring the weights, which are ones."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        computes(torch.ones(4, 8, dtype=torch.bfloat16)).backward()
        if copies:
            copies.collect_gradients()
        optimizer.step()
        optimizer.zero_grad()
        if copies:
            copies.refresh_copies()
    return float((1.0 - model.inside.weight.detach().float()).abs().mean())


def test_l06_updates_smaller_than_a_bf16_step_add_up() -> None:
    plain, ours = Ones().bfloat16(), Ones()
    copies = MixedPrecisionCopies(ours)
    assert moved(plain, plain, None) == 0.0  # what others lose
    assert moved(ours, copies.model, copies) == pytest.approx(0.01, rel=0.01)
    computed: Any = copies.model
    assert float(computed.inside.weight.detach().float().mean()) == pytest.approx(0.99, abs=2**-8)


@pytest.mark.parametrize("kind", KINDS)
def test_l06_a_models_small_updates_move_it_as_in_fp32(kind: str) -> None:
    exact, ours = made(kind), made(kind)
    forwards = [Forward(exact), in_bf16(ours)]
    before = {n: p.detach().clone() for n, p in exact.named_parameters()}
    for forward in forwards:
        parameters = trainable(forward.weights).values()
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.0)
        for _ in range(5):
            stepped(forward)
            optimizer.step()
            optimizer.zero_grad()
            forward.refresh_copies()
    for (name, wanted), found in zip(exact.named_parameters(), ours.parameters(), strict=True):
        far, ours_far = (p.detach() - before[name] for p in (wanted, found))
        assert found.dtype == torch.float32
        assert float(far.abs().sum()) > 0, name
        cosine = float(torch.cosine_similarity(far.flatten(), ours_far.flatten(), 0))
        assert cosine > 0.9, (name, cosine)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_weights_in_fp32_and_are_those_of_fp32_but_for_rounding(
    kind: str,
) -> None:
    exact, ours = made(kind), made(kind)
    for forward in (Forward(exact), in_bf16(ours)):
        for _ in range(2):  # they add up, as those of micro-batches do
            stepped(forward)
    for (name, p), wanted in zip(ours.named_parameters(), exact.parameters(), strict=True):
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32
        difference = float((p.grad - wanted.grad).norm() / wanted.grad.norm())
        assert difference < 0.05, (name, difference)


def test_products_are_in_bf16_and_the_loss_in_fp32() -> None:
    forward = in_bf16(causal("llama", scale=1.0))
    model: Any = forward.model
    kinds = list[Any]()
    layer = model.model.layers[0]
    for module in (layer.mlp.down_proj, layer.input_layernorm, model.model.embed_tokens):
        module.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    losses = forward.losses(MICRO)
    assert kinds == [torch.bfloat16] * 3
    assert losses.dtype == torch.float32
    exact = Forward(causal("llama", scale=1.0)).losses(MICRO)
    assert torch.allclose(losses, exact, rtol=0.01)
    assert not torch.equal(losses, exact)


def test_l06_a_frequent_tokens_gradient_is_that_of_fp32() -> None:
    """A sum in bf16 stands still once it is 256 times what is added to it."""
    micro = micro_of(2000, every=1)
    micro.ids_N.fill_(7)
    gradients = list[Tensor]()
    for compute_in in (torch.float32, torch.bfloat16):
        model = causal("llama", scale=1.0, num_hidden_layers=1, max_position_embeddings=2048)
        forward = Forward(model)
        forward.compute_in(compute_in)
        # A loss that asks the same of every place, so that nothing cancels out.
        forward.hidden_states(micro).float().sum().backward()
        forward.collect_gradients()
        gradients.append(model.model.embed_tokens.weight.grad[7].clone())
    exact, ours = gradients
    assert float((ours - exact).norm() / exact.norm()) < 0.05


def test_a_place_that_predicts_for_many_has_their_whole_gradient() -> None:
    from headway.model.forward import _SelectRows

    hidden = torch.ones(3, 4, dtype=torch.bfloat16, requires_grad=True)
    at = torch.tensor([1] * 2000 + [2])
    _SelectRows.apply(hidden, at).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad[:, 0].tolist() == [0.0, 2000.0, 1.0]


# ---- the twin ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_computes_with_its_own_weights(kind: str) -> None:
    forward = in_bf16(made(kind))
    weights: Any = forward.weights
    before = forward.losses(MICRO)
    with torch.no_grad():
        for p in weights.parameters():
            p.mul_(1.5)
    looked_up = [m for m in weights.modules() if isinstance(m, nn.Embedding)]
    if not weights.config.tie_word_embeddings:
        for module in looked_up:  # in the weights themselves
            module.weight.data.div_(1.5)
        assert torch.equal(forward.losses(MICRO), before)
    for module in weights.modules():
        module.forward = None  # of the twin, nothing leads here
    forward.refresh_copies()
    assert not torch.allclose(forward.losses(MICRO), before, rtol=1e-3)


def test_angles_are_computed_in_fp32() -> None:
    model: Any = in_bf16(causal("llama")).model
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_tied_head_is_a_copy_whose_gradient_joins_the_embeddings() -> None:
    forward = in_bf16(made("llama, tied"))
    model: Any = forward.model
    weights: Any = forward.weights
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.model.embed_tokens.weight is weights.model.embed_tokens.weight
    assert weights.lm_head.weight is weights.model.embed_tokens.weight


def test_dropout_draws_in_the_twin() -> None:
    forward = in_bf16(causal("gpt2", scale=1.0, resid_pdrop=0.5))
    forward.model.train()
    assert not torch.equal(forward.losses(MICRO), forward.losses(MICRO))
    forward.model.eval()
    assert torch.equal(forward.losses(MICRO), forward.losses(MICRO))


# ---- frozen weights ----------------------------------------------------------------------------


def test_a_frozen_base_is_bf16_alone_and_adapters_are_fp32() -> None:
    forward = in_bf16(adapted())
    names = trainable(forward.weights).keys()
    twins = dict(forward.model.named_parameters())
    for name, p in forward.weights.named_parameters():
        assert p.dtype == (torch.float32 if name in names else torch.bfloat16)
        assert (twins[name] is p) == (name not in names)  # no second copy of what is frozen
        assert twins[name].dtype == torch.bfloat16
    stepped(forward)
    assert all(p.grad.dtype == torch.float32 for p in trainable(forward.weights).values())
    assert all(p.grad is None for p in forward.weights.parameters() if not p.requires_grad)


@pytest.mark.parametrize("exact_in_bf16", [True, False])
def test_computing_in_fp32_again_is_as_before(exact_in_bf16: bool) -> None:
    model = adapted()
    if exact_in_bf16:
        for p in model.parameters():
            p.data = p.data.bfloat16().float()
    forward = Forward(model)
    before = copy.deepcopy(model.state_dict())
    losses = forward.losses(MICRO)
    forward.compute_in(torch.bfloat16)
    assert not torch.equal(forward.losses(MICRO), losses)
    forward.compute_in(torch.float32)
    assert forward.model is forward.weights is model
    assert torch.equal(forward.losses(MICRO), losses)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_is_kept_holds_no_second_base() -> None:
    forward = in_bf16(adapted())
    held = [exact for _, exact in forward._copies._frozen if exact is not None]  # type: ignore[union-attr]
    assert held
    forward.release_exact_weights()
    assert all(exact is None for _, exact in forward._copies._frozen)  # type: ignore[union-attr]
    forward.compute_in(torch.float32)
    assert {p.dtype for p in forward.weights.parameters()} == {torch.float32}
