"""Fused ops give what they replace, replace nothing else, and are compiled once."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from tests.helpers import causal
from torch import Tensor, nn
from torch._dynamo.utils import counters

from headway.model.kernels.fused_ops import (
    _is_rotary,
    _rms_norm,
    apply_rotary,
    compiled_loss_gradient,
    compiled_rms_norm,
    loss_gradient,
    use_fused_ops,
)

WIDER = {"hidden_size": 32, "head_dim": 16}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8},
    "olmo2": {},
    "glm": WIDER | {"pad_token_id": 0},
    "cohere": {},
    "gpt_neox": {"rotary_pct": 0.5},
}
NORMS_ARE_RMS = {"llama", "qwen3", "olmo2", "glm"}
TURNS_HALVES = {"llama", "qwen3", "olmo2", "gemma3_text"}


@pytest.fixture(autouse=True)
def functions_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind's own function, also where an earlier test in this process replaced it."""
    for kind in KINDS:
        folder = kind.removesuffix("_text")
        name = f"transformers.models.{folder}.modeling_{folder}"
        own = importlib.import_module(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        monkeypatch.setattr(own, "apply_rotary_pos_emb", fresh.apply_rotary_pos_emb)


def rotary_of(model: Any) -> Any:
    return sys.modules[type(model).__module__].apply_rotary_pos_emb


def norms_of(model: Any) -> list[nn.Module]:
    return [m for m in model.modules() if type(m).__name__.endswith("Norm")]


def replaced(norm: nn.Module) -> bool:
    return getattr(norm.forward, "__func__", None) is _rms_norm


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_equal_is_replaced(kind: str) -> None:
    model = causal(kind, **KINDS[kind])
    use_fused_ops(model)
    assert {replaced(norm) for norm in norms_of(model)} == {kind in NORMS_ARE_RMS}
    assert (rotary_of(model) is apply_rotary) == (kind in TURNS_HALVES)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_stay_what_they_were(kind: str) -> None:
    model = causal(kind, scale=2.0, **KINDS[kind])
    ids = torch.randint(259, (2, 9), generator=torch.Generator().manual_seed(0))

    def run(one: Any) -> tuple[float, dict[str, Tensor]]:
        loss = one(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        return float(loss.detach()), {n: p.grad for n, p in one.named_parameters()}

    loss, gradients = run(copy.deepcopy(model))
    use_fused_ops(model)
    ours, our_gradients = run(model)
    assert ours == pytest.approx(loss, rel=1e-6)
    for name, gradient in gradients.items():
        far = float((our_gradients[name] - gradient).abs().max())
        assert far <= 1e-5 * max(1.0, float(gradient.abs().max())), name


class Norm(nn.Module):
    """An RMS norm to change."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)
        self.eps = 1e-5

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * torch.rsqrt(hidden.pow(2).mean(-1, True) + self.eps) * self.weight


class PlainRMSNorm(Norm):
    pass


class HiddenEpsilonRMSNorm(Norm):
    """One whose epsilon is found nowhere: it shows in small numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        del self.eps

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * torch.rsqrt(hidden.pow(2).mean(-1, True) + 1e-5) * self.weight


class ShiftedRMSNorm(Norm):
    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) + super().forward(hidden) / self.weight


class GatedRMSNorm(Norm):
    def forward(self, hidden: Tensor, gate: Tensor) -> Tensor:
        return super().forward(hidden * gate)


class SometimesRMSNorm(Norm):
    """Its kind says nothing of each."""

    def __init__(self, with_scale: bool) -> None:
        super().__init__()
        if not with_scale:
            self.weight = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("norm", "is_ours"),
    [
        (PlainRMSNorm(), True),
        (HiddenEpsilonRMSNorm(), False),
        (ShiftedRMSNorm(), False),
        (GatedRMSNorm(), False),
        (SometimesRMSNorm(True), True),
        (SometimesRMSNorm(False), False),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_norm_is_replaced_where_it_is_ours(norm: nn.Module, is_ours: bool) -> None:
    use_fused_ops(nn.Sequential(PlainRMSNorm(), SometimesRMSNorm(True), norm))
    assert replaced(norm) == is_ours


def test_looking_draws_nothing_from_chance() -> None:
    model = causal("llama")
    before = torch.get_rng_state()
    use_fused_ops(model)
    assert torch.equal(torch.get_rng_state(), before)


def halves(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
    """The textbook."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)

    def turned(t: Tensor) -> Tensor:
        left, right = t.chunk(2, -1)
        return t * cos + torch.cat([-right, left], -1) * sin

    return turned(q), turned(k)


def other_way(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Any:
    return halves(q, k, cos, -sin, unsqueeze_dim)


def with_places(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Any = None,
    unsqueeze_dim: int = 1,
) -> Any:
    """As it was in an older transformers: what comes fifth is something else."""
    return halves(q, k, cos, sin, unsqueeze_dim)


@pytest.mark.parametrize(
    ("function", "is_ours"), [(halves, True), (other_way, False), (with_places, False)]
)
def test_a_rotation_is_replaced_where_it_is_ours(function: Any, is_ours: bool) -> None:
    assert _is_rotary(function) == is_ours


@pytest.mark.parametrize("heads_at", [1, 2])
def test_a_rotation_and_its_gradient_by_the_textbook(heads_at: int) -> None:
    shape = [2, 5, 5, 8]
    angles = torch.randn(2, 5, 4).repeat(1, 1, 2)
    given = [torch.randn(shape) for _ in range(2)]
    found, wanted = ([t.clone().requires_grad_() for t in given] for _ in range(2))
    for tensors, rotate in ((found, apply_rotary), (wanted, halves)):
        q, k = rotate(*tensors, angles.cos(), angles.sin(), heads_at)
        (q.pow(2).sum() + k.pow(3).sum()).backward()
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_what_is_turned_keeps_its_number_format() -> None:
    q = torch.randn(1, 2, 3, 8).bfloat16()
    angles = torch.randn(1, 3, 8)
    assert {t.dtype for t in apply_rotary(q, q, angles.cos(), angles.sin())} == {torch.bfloat16}


# ---- compiled ----------------------------------------------------------------------------------

EPSILON = 1e-6
FAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def run_norm(norm: Callable[..., Tensor], *inputs: Tensor, back: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of what went in."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    out = norm(*leaves)
    out.backward(back)
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("dtype", FAR)
def test_s03_rms_norm_and_its_gradients_are_compiled_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    before = 0
    for shape in ((1, 50, 16), (1, 7, 16), (1, 50, 2, 16), (3, 16, 16), (2, 16)):
        hidden, back = torch.randn(shape).to(dtype) * 3, torch.randn(shape).to(dtype)
        weight = torch.rand(16).to(dtype)
        ours = run_norm(lambda x, w: compiled_rms_norm(x, w, EPSILON), hidden, weight, back=back)
        exact = run_norm(
            lambda x, w: F.rms_norm(x, (16,), w, EPSILON),
            hidden.double(),
            weight.double(),
            back=back.double(),
        )
        for mine, wanted in zip(ours, exact, strict=True):
            assert mine.dtype == dtype
            assert float((mine.double() - wanted).norm() / wanted.norm()) < FAR[dtype]
        before = before or graphs()
    assert graphs() == before  # other numbers of rows took nothing new


def test_a_frozen_weight_has_no_gradient() -> None:
    hidden = torch.randn(5, 16, requires_grad=True)
    weight = torch.ones(16)
    compiled_rms_norm(hidden, weight, EPSILON).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("dtype", FAR)
def test_the_compiled_losss_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scale = torch.tensor(0.125)
    for rows in (9, 40, 2):
        logits = (torch.randn(rows, 33) * 4).to(dtype)
        targets = torch.randint(33, (rows, 1))
        ours, theirs = logits.clone(), logits.clone()
        total = compiled_loss_gradient(ours, targets, scale)
        assert float(total) == pytest.approx(float(loss_gradient(theirs, targets, scale)), 1e-5)
        plain = F.cross_entropy(logits.float(), targets[:, 0], reduction="sum") / 8
        assert float(total) == pytest.approx(float(plain), 1e-5)
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=FAR[dtype])
