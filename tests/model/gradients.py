"""Gradients of a model, compared."""

from typing import Any

from torch import Tensor


def gradients(model: Any) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], far: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        most = float((found[name] - gradient).abs().max())
        assert most <= far * max(1.0, float(gradient.abs().max())), (name, most)
