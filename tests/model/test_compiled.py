"""What is compiled gives what torch gives, for any number of rows, and is compiled once."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from tests.helpers import causal, micro_of
from torch import Tensor, nn
from torch._dynamo.utils import counters

from headway.model import compiled
from headway.model.load import with_lora
from headway.model.loss import Forward, _loss_gradient

EPSILON = 1e-6
FAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def gradients(norm: Callable[..., Tensor], *inputs: Tensor, back: Tensor) -> list[Tensor]:
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
        ours = gradients(lambda x, w: compiled.rms_norm(x, w, EPSILON), hidden, weight, back=back)
        exact = gradients(
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
    compiled.rms_norm(hidden, weight, EPSILON).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("dtype", FAR)
def test_the_losss_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scale = torch.tensor(0.125)
    for rows in (9, 40, 2):
        logits = (torch.randn(rows, 33) * 4).to(dtype)
        targets = torch.randint(33, (rows, 1))
        ours, theirs = logits.clone(), logits.clone()
        total = compiled.loss_gradient(ours, targets, scale)
        assert float(total) == pytest.approx(float(_loss_gradient(theirs, targets, scale)), 1e-5)
        plain = F.cross_entropy(logits.float(), targets[:, 0], reduction="sum") / 8
        assert float(total) == pytest.approx(float(plain), 1e-5)
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=FAR[dtype])


@pytest.mark.parametrize("kind", ["llama", "adapters", "gpt2"])
def test_a_model_has_the_loss_and_the_gradients_it_has_uncompiled(kind: str) -> None:
    model = causal("gpt2" if kind == "gpt2" else "llama").eval()
    if kind == "adapters":
        model = with_lora(model, r=4, alpha=8, dropout=0.0, target_modules=("all-linear",), seed=1)
    forward = Forward(model)
    for micro in (micro_of(2, 4, 4, 11), micro_of(30, 40, every=3)):
        found: list[tuple[float, dict[str, Tensor]]] = []
        for yes in (False, True, False):
            forward.compile(yes)
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
        forward.compile()
        monkeypatch.setattr(compiled, "rms_norm", never)
        assert torch.equal(forward.losses(micro), before)
    with pytest.raises(AssertionError):
        forward.loss(micro, 3)


def test_a_single_token_runs_uncompiled() -> None:
    forward = Forward(causal("llama"))
    forward.compile()
    before = graphs()
    loss = forward.loss(micro_of(1, every=1), 1)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert graphs() == before


def test_a_twin_in_bf16_is_compiled_too() -> None:
    forward = Forward(causal("llama"))
    forward.compile()
    forward.compute_in(torch.bfloat16)
    norms = [m for m in forward.model.modules() if isinstance(m, nn.Module) and _is_norm(m)]
    assert norms
    assert {norm.forward.__func__.__name__ for norm in norms} == {"_compiled_rms_norm"}


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm")
