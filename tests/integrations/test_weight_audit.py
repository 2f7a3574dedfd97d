"""Weight audit: bits that changed, and gradients that were there."""

from typing import Any

import pytest
import torch

from headway.integrations.weight_audit import WeightAudit


def model(**tensors: torch.Tensor) -> torch.nn.Module:
    made = torch.nn.Module()
    for name, tensor in tensors.items():
        made.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=name != "frozen"))
    return made


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_bit_is_a_change(kind: Any) -> None:
    made = model(a=torch.ones(3, 4, dtype=kind), b=torch.ones(5, dtype=kind))
    audit = WeightAudit(made)
    before = audit.result()
    assert before is not None
    assert (before.trainable, before.changed) == (2, 0)
    with torch.no_grad():
        made.a[1, 2] = torch.nextafter(made.a[1, 2].float(), torch.tensor(2.0)) * 1.01  # type: ignore[index,operator]
    after = audit.result()
    assert after is not None
    assert after.changed == 1


def test_an_update_that_rounding_takes_is_no_change() -> None:
    made = model(a=torch.ones(4, dtype=torch.bfloat16))
    audit = WeightAudit(made)
    with torch.no_grad():
        made.a += 1e-4  # type: ignore[operator]
    made.a.grad = torch.ones(4, dtype=torch.bfloat16)
    audit.look_at_gradients()
    found = audit.result()
    assert found is not None
    assert (found.changed, found.unmoved) == (0, ("a",))


def test_gradients_are_counted_and_none_and_zero_are_told_apart() -> None:
    made = model(a=torch.ones(2), b=torch.ones(2), c=torch.ones(2), frozen=torch.ones(2))
    audit = WeightAudit(made)
    assert audit.names == ["a", "b", "c"]
    made.a.grad, made.b.grad = torch.ones(2), torch.zeros(2)
    assert audit.look_at_gradients() == (2, 1)
    assert audit.dead == ["b", "c"]
    made.a.grad, made.b.grad = torch.zeros(2), torch.ones(2)  # LoRA: the other one moves later
    assert audit.look_at_gradients() == (2, 1)
    assert audit.dead == ["c"]
    assert not audit.all_had_gradients


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_gradients_are_gradients() -> None:
    made = model(a=torch.ones(4, 2))
    made.a.grad = torch.sparse_coo_tensor([[1]], [[1.0, 0.0]], (4, 2))
    assert WeightAudit(made).look_at_gradients() == (1, 1)


def test_weights_that_another_process_holds_are_not_judged() -> None:
    audit = WeightAudit(model(a=torch.ones(0)))
    assert not audit.is_readable
    assert audit.result() is None


def test_numbers_that_are_not_finite_are_named() -> None:
    spoiled, large = torch.tensor([1.0, float("nan")]), torch.full((2,), 1e30)
    made = model(a=torch.ones(2), b=spoiled, c=large, d=torch.tensor([0.0, -float("inf")]))
    assert WeightAudit(made).nonfinite() == ["b", "d"]


def test_a_gradient_whose_square_is_zero_is_not_zero() -> None:
    made = model(a=torch.ones(2))
    made.a.grad = torch.full((2,), 1e-30)
    assert WeightAudit(made).look_at_gradients() == (1, 1)
