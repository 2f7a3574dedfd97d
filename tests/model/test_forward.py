"""A micro-batch runs the same way packed, separately, with custom logits and compiled."""

import copy
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of, padded_losses, sharing
from tests.model.gradients import assert_same, gradients
from tests.training.dispatched import HostReads
from torch import Tensor, nn
from torch._dynamo.utils import counters

from headway.model.forward import Forward
from headway.model.kernels import fused_ops
from headway.model.kernels.compile_level import CompileLevel
from headway.model.load import with_lora
from headway.training.trials.probes import try_packing


@pytest.mark.parametrize("every", [1, 3, 12])
def test_separately_gives_the_same_losses(every: int) -> None:
    micro = micro_of(2, 4, 4, 11, every=every)
    forward = Forward(causal("llama"))
    with torch.no_grad():
        packed = forward.losses(micro)
        forward.run_separately()
        separate = forward.losses(micro)
    assert torch.allclose(packed, separate, rtol=1e-5, atol=1e-5)


def test_separately_runs_each_document_by_itself() -> None:
    model, lengths = causal("llama"), list[int]()
    model.model.register_forward_pre_hook(
        lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    forward = Forward(model)
    forward.run_separately()
    forward.losses(micro_of(2, 4, 4, 11))
    assert lengths == [2, 4, 4, 11]


@pytest.mark.parametrize("together", [True, False])
def test_separately_a_document_comes_after_what_it_begins_with(together: bool) -> None:
    once, each = sharing((7, (1, 4)), (3, (5, 5, 2)))
    model = causal("llama")
    plain = copy.deepcopy(model)
    forward = Forward(model)
    forward.run_separately()
    with torch.no_grad():
        losses, wanted = forward.losses(once if together else each), padded_losses(plain, each)
    assert torch.allclose(losses, wanted, rtol=1e-5, atol=1e-5)


def test_separate_documents_are_found_without_reading_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the model: its own code in transformers reads once for each mask it makes."""
    once, each = sharing((7, (1, 4)), (3, (5, 5, 2)))
    forward = Forward(causal("llama"))
    forward.run_separately()
    monkeypatch.setattr(forward, "_logits_at", lambda ids, at: ids[at][:, None].float())
    wanted = {}
    for name, micro in (("once", once), ("each", each)):
        with HostReads() as reads:
            wanted[name] = forward.logits(micro)
        assert reads.found == []
    assert torch.equal(wanted["once"], wanted["each"])


# ---- logits that are more than a product -------------------------------------------------------

OWN: dict[str, dict[str, Any]] = {
    "gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": None,
    },
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


@pytest.mark.parametrize("kind", OWN)
def test_logits_that_are_more_than_a_product_are_the_models_own(kind: str) -> None:
    model, micro = causal(kind, scale=2.0, **OWN[kind]), micro_of(3, 5, 9, 12)
    plain = copy.deepcopy(model)
    forward = Forward(model)
    tried = try_packing(forward, micro)
    assert (tried.leaks, tried.has_custom_logits) == (False, True)
    loss, wanted = forward.loss(micro, 20), padded_losses(plain, micro).sum() / 20
    loss.backward()
    wanted.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert_same(gradients(model), gradients(plain))
    forward.compute_in(torch.bfloat16)
    assert forward.has_custom_logits  # the twin's are no other
    assert torch.allclose(forward.losses(micro), padded_losses(plain, micro), rtol=0.05, atol=0.02)


# ---- compiled ----------------------------------------------------------------------------------


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("kind", ["llama", "adapters", "gpt2"])
def test_a_model_has_the_loss_and_the_gradients_it_has_uncompiled(kind: str) -> None:
    model = causal("gpt2" if kind == "gpt2" else "llama").eval()
    if kind == "adapters":
        model = with_lora(model, r=4, alpha=8, dropout=0.0, target_modules=("all-linear",), seed=1)
    forward = Forward(model)
    for micro in (micro_of(2, 4, 4, 11), micro_of(30, 40, every=3)):
        found: list[tuple[float, dict[str, Tensor]]] = []
        for level in (CompileLevel.NOTHING, CompileLevel.OPERATIONS, CompileLevel.NOTHING):
            forward.compile(level)
            loss = forward.loss(micro, 7)
            loss.backward()
            of = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            found.append((float(loss.detach()), of))
            model.zero_grad()
        (loss, plain), (ours, mine), again = found
        assert ours == pytest.approx(loss, rel=1e-5)
        assert mine.keys() == plain.keys()
        for name, gradient in plain.items():
            assert float((mine[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()), name
            assert torch.equal(again[1][name], gradient)  # as if it had never been compiled


def test_what_is_only_looked_at_runs_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError

    forward, micro = Forward(causal("llama")), micro_of(3, 9)
    with torch.no_grad():
        before = forward.losses(micro)
        forward.compile(CompileLevel.OPERATIONS)
        monkeypatch.setattr(fused_ops, "compiled_rms_norm", never)
        assert torch.equal(forward.losses(micro), before)
    with pytest.raises(AssertionError):
        forward.loss(micro, 3)


def test_a_single_token_runs_uncompiled() -> None:
    forward = Forward(causal("llama"))
    forward.compile(CompileLevel.OPERATIONS)
    before = graphs()
    loss = forward.loss(micro_of(1, every=1), 1)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert graphs() == before


def test_a_twin_in_bf16_is_compiled_too() -> None:
    forward = Forward(causal("llama"))
    forward.compile(CompileLevel.OPERATIONS)
    forward.compute_in(torch.bfloat16)
    norms = [m for m in forward.model.modules() if isinstance(m, nn.Module) and _is_norm(m)]
    assert norms
    assert {norm.forward.__func__.__name__ for norm in norms} == {"_compiled_rms_norm"}


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm")


# ---- another objective -------------------------------------------------------------------------


class SquaredLogits:
    """An objective beside cross-entropy: pulls the logits of targets to 0."""

    def summed_loss(
        self,
        hidden_MC: Tensor,
        head: nn.Linear,
        targets_M: Tensor,
        scale: float,
        *,
        compiled: bool,
    ) -> Tensor:
        return self.losses(hidden_MC, head, targets_M).sum() * scale

    def losses(self, hidden_MC: Tensor, head: nn.Linear, targets_M: Tensor) -> Tensor:
        return self.losses_of_logits(head(hidden_MC), targets_M)

    def losses_of_logits(self, logits_MV: Tensor, targets_M: Tensor) -> Tensor:
        return logits_MV.float().gather(1, targets_M[:, None])[:, 0].square()


@pytest.mark.parametrize("separately", [True, False])
def test_the_objective_is_a_part_that_can_be_exchanged(separately: bool) -> None:
    forward, micro = Forward(causal("llama"), SquaredLogits()), micro_of(3, 9)
    forward.run_separately(separately)
    losses = forward.losses(micro)
    assert torch.allclose(forward.loss(micro, 5), losses.sum() / 5)
    assert not torch.allclose(losses, Forward(causal("llama")).losses(micro))


def test_every_layer_is_heard_of_forward_and_backward_and_in_the_copy_too() -> None:
    """A pass of a large model takes minutes, in which the pulse must beat."""
    micro, heard, plain = micro_of(5, 9), list[int](), Forward(causal("llama", scale=1.0))
    forward = Forward(causal("llama", scale=1.0), on_layer=lambda: heard.append(1))
    loss = forward.loss(micro, 4)
    assert len(heard) == 2
    loss.backward()
    assert len(heard) == 4
    plain.loss(micro, 4).backward()
    ours, theirs = ([p.grad for p in one.weights.parameters()] for one in (forward, plain))
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    heard.clear()
    forward.compute_in(torch.bfloat16)
    forward.loss(micro, 4).backward()
    assert len(heard) == 4
