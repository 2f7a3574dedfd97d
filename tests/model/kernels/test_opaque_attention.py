"""Opaque attention: what packed attention computes, as one operation with a gradient."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.model.kernels.test_varlen import computed
from torch import Tensor

from headway.base.documents import DocumentGroup, RowSpan
from headway.model.attention_layout import _LAYOUTS, AttentionLayout
from headway.model.kernels import opaque_attention as opaque
from headway.model.kernels import varlen
from headway.model.kernels.opaque_attention import opaque_attention
from headway.model.kernels.packed_attention import Scores, packed_attention

PLAIN = (DocumentGroup(5), DocumentGroup(7, 2), DocumentGroup(300))
PREFIX = (DocumentGroup(9), DocumentGroup(6, 2, RowSpan(0, 9)), DocumentGroup(4))


def tensors_for(groups: tuple[DocumentGroup, ...]) -> list[Tensor]:
    num, draws = sum(group.num_tokens for group in groups), torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, num, 8, generator=draws) for heads in (4, 2, 2)]


def with_gradients(attend: Any, layout: AttentionLayout, scores: Scores) -> list[Tensor]:
    leaves = [t.requires_grad_() for t in tensors_for(layout.documents)]
    if scores.sinks_H is not None:
        leaves.append(scores.sinks_H.detach().requires_grad_())
        scores = replace(scores, sinks_H=leaves[3])
    out = attend(*leaves[:3], layout, scores)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("groups", [PLAIN, PREFIX], ids=["plain", "sharing"])
@pytest.mark.parametrize(
    "scores",
    [
        Scores(0.35),
        Scores(0.35, window=4),
        Scores(0.35, softcap=2.0),
        Scores(0.35, sinks_H=torch.tensor([0.5, -1.0, 2.0, 0.0])),
    ],
    ids=["plain", "window", "softcap", "sinks"],
)
def test_it_and_its_gradients_have_the_bits_of_what_it_wraps(
    groups: tuple[DocumentGroup, ...], scores: Scores
) -> None:
    layout = AttentionLayout(groups)
    ours = with_gradients(opaque_attention, layout, scores)
    theirs = with_gradients(packed_attention, layout, scores)
    assert len(ours) == len(theirs) == (4 if scores.sinks_H is None else 5)
    assert all(map(torch.equal, ours, theirs))


def test_a_layout_is_found_while_somebody_holds_it() -> None:
    gc.collect()
    first, second = (AttentionLayout((DocumentGroup(n),)) for n in (2, 3))
    assert AttentionLayout.find(first.handle) is first
    assert AttentionLayout.find(second.handle) is second
    kept = first.keep_for_backward(torch.ones(1, requires_grad=True) * 2)
    handle = first.handle
    del first, second
    assert len(_LAYOUTS) == 1
    assert AttentionLayout.find(handle).documents == (DocumentGroup(2),)
    del kept
    assert not _LAYOUTS


# ---- dropout -----------------------------------------------------------------------------------

DROPPED = Scores(0.35, dropout=0.5)


@pytest.mark.parametrize("groups", [PLAIN, PREFIX], ids=["plain", "sharing"])
def test_the_backward_pass_drops_what_the_forward_pass_dropped(
    groups: tuple[DocumentGroup, ...],
) -> None:
    q, k, v = tensors_for(groups)
    v = v.requires_grad_()
    out = opaque_attention(q, k, v, layout := AttentionLayout(groups), DROPPED)
    grad = torch.randn(out.shape)
    out.backward(grad)
    assert v.grad is not None
    # Linear in the values: their gradient, times them, is the output times its gradient.
    torch.testing.assert_close((v.grad * v).sum(), (out * grad).sum(), rtol=1e-4, atol=1e-4)
    del layout


def test_each_call_drops_others_as_the_seed_says() -> None:
    tensors, layout = tensors_for(PLAIN), AttentionLayout(PLAIN)
    torch.manual_seed(3)
    first, second = (opaque_attention(*tensors, layout, DROPPED) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(opaque_attention(*tensors, layout, DROPPED), first)


def test_without_dropout_nothing_is_drawn() -> None:
    before = torch.get_rng_state()
    opaque_attention(*tensors_for(PLAIN), AttentionLayout(PLAIN), Scores(0.35))
    assert torch.equal(torch.get_rng_state(), before)


# ---- a GPU's kernel ----------------------------------------------------------------------------


def reference(q: Tensor, k: Tensor, v: Tensor, *sequences: Any, **options: Any) -> Tensor:
    left, right = options["window_size_left"], options["window_size_right"]
    assert right == 0
    queries, keys, *longest = sequences
    return computed(q, k, v, queries, keys, (longest[0], longest[1]), options["scale"], left)


def flash_forward(
    q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any
) -> tuple[Tensor, ...]:
    *sequences, dropout, is_causal, _debugs = rest
    assert not dropout
    assert is_causal == (options["window_size_left"] == -1)
    out, empty = reference(q, k, v, *sequences, **options), torch.empty(0)
    return out, torch.full((q.shape[1], len(q)), 7.0), empty, empty, empty


def flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **options: Any
) -> tuple[Tensor, ...]:
    out, logsumexp, *sequences, dropout, is_causal, _state, _unused = rest
    assert not dropout
    assert is_causal == (options["window_size_left"] == -1)
    assert bool((logsumexp == 7.0).all())

    def gradients() -> tuple[Tensor, ...]:
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        again = reference(leaves[0], leaves[1], leaves[2], *sequences, **options)
        assert torch.equal(again, out)
        return torch.autograd.grad(again, leaves, grad)

    with ThreadPoolExecutor(1) as thread:  # an operator of torch's runs without autograd
        return thread.submit(gradients).result()


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU's kernels, computed by the CPU: called as the operators say that they are."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", flash_forward, "CPU")
    library.impl("_flash_attention_backward", flash_backward, "CPU")
    monkeypatch.setattr(varlen, "_is_on_capable_gpu", lambda _: True)
    yield
    library._destroy()


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("groups", [PLAIN, PREFIX], ids=["plain", "sharing"])
@pytest.mark.parametrize("window", [None, 4])
def test_a_gpus_kernel_is_run_once_forward_and_once_backward(
    groups: tuple[DocumentGroup, ...], window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, scores = AttentionLayout(groups), Scores(0.35, window=window)
    monkeypatch.setattr(opaque, "packed_attention", None)  # it is run by nothing else
    ours = with_gradients(opaque_attention, layout, scores)
    monkeypatch.undo()
    theirs = with_gradients(packed_attention, layout, scores)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


# ---- what the compiler is told -----------------------------------------------------------------


@pytest.mark.parametrize(
    "scores",
    [
        Scores(0.35),
        DROPPED,
        Scores(0.35, window=4),
        Scores(0.35, sinks_H=torch.ones(4, requires_grad=True)),
    ],
    ids=["plain", "dropout", "window", "sinks"],
)
def test_the_compiler_is_told_the_truth(scores: Scores) -> None:
    layout = AttentionLayout(PREFIX)
    tensors = [t.requires_grad_() for t in tensors_for(PREFIX)]
    numbers = scores.scale, scores.dropout, scores.window, scores.softcap
    given = (*tensors, scores.sinks_H, layout.handle, *numbers)
    tests = ["test_schema", "test_faketensor"]
    if not scores.dropout:  # whose results differ from call to call
        tests += ["test_autograd_registration", "test_aot_dispatch_dynamic"]
    torch.library.opcheck(torch.ops.headway.attention.default, given, test_utils=tests)
