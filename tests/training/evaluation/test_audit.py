"""Weight audit: a tensor that did not change is named."""

import pytest
import torch

from headway.runs.receipt import TensorAudit
from headway.training.evaluation.audit import audit


def weights() -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(torch.full((4,), 3.0)) for name in ("a", "b", "c")}


def test_weights_that_all_moved() -> None:
    start, now = weights(), weights()
    for p in now.values():
        p.data.add_(0.3)
    found = audit(now, start, set())
    assert (found.trainable, found.with_gradient, found.changed) == (3, 3, 3)
    assert found.relative_change == pytest.approx(0.1)
    assert (found.unmoved, found.dead) == ((), ())


def test_s02_a_tensor_that_had_gradient_and_did_not_move_is_named() -> None:
    start, now = weights(), weights()
    now["a"].data[0] += 1e-6
    now["c"].data.mul_(2)
    found = audit(now, start, set())
    assert found.changed == 2
    assert found.unmoved == ("b",)


def test_l03_a_dead_tensor_is_named_and_is_no_unmoved_one() -> None:
    start, now = weights(), weights()
    now["a"].data.add_(1)
    found = audit(now, start, {"b", "c"})
    assert (found.with_gradient, found.changed) == (1, 1)
    assert (found.unmoved, found.dead) == ((), ("b", "c"))


def test_a_few_names_are_enough() -> None:
    many = {f"tensor {n:02}": torch.nn.Parameter(torch.ones(1)) for n in range(25)}
    found = audit(many, many, set())
    assert found.unmoved == tuple(f"tensor {n:02}" for n in range(10))
    assert audit(many, many, set(many)).dead == tuple(f"tensor {n:02}" for n in range(10))


def test_weights_that_begin_at_0_have_no_relative_change() -> None:
    start = {"b": torch.zeros(3)}
    now = {"b": torch.nn.Parameter(torch.ones(3))}
    assert audit(now, start, set()) == TensorAudit(1, 1, 1, 0.0, (), ())


def test_the_audit_sees_the_smallest_step_of_a_float() -> None:
    now = {"b": torch.nn.Parameter(torch.ones(1000))}
    start = {"b": torch.ones(1000)}
    now["b"].data[777] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert audit(now, start, set()).changed == 1
