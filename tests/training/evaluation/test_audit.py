"""Weight audit: a tensor that did not change is named."""

import pytest
import torch

from headway.runs.receipt import TensorAudit
from headway.training.evaluation.audit import audit, compare_saved


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


def test_l03_a_tensor_that_had_gradient_and_did_not_move_is_named() -> None:
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


def test_zeros_that_became_numbers_too_small_to_matter_have_not_changed() -> None:
    """An adapter at a learning rate of 1e-30: every bit of B is new, and nothing it computes."""
    start = {"A": torch.full((4,), 0.1), "B": torch.zeros(4)}
    now = {"A": torch.nn.Parameter(start["A"] + 0), "B": torch.nn.Parameter(torch.ones(4) * 1e-30)}
    found = audit(now, start, {"A"})
    assert (found.changed, found.unmoved, found.dead) == (0, ("B",), ("A",))
    now["B"].data.fill_(1e-7)  # the first step of a long warmup
    assert audit(now, start, {"A"}).changed == 1


def test_changes_too_small_to_be_squared_in_fp32_are_measured() -> None:
    start = {"b": torch.full((4,), 1e-25)}
    now = {"b": torch.nn.Parameter(torch.full((4,), 1.5e-25))}
    assert audit(now, start, set()).relative_change == pytest.approx(0.5)


def test_a_saved_tensor_that_differs_in_one_bit_is_named() -> None:
    now = weights()
    saved = {name: p.detach().clone() for name, p in now.items()}
    found = compare_saved(audit(now, weights(), set()), now, saved)
    assert (found.saved, found.differing) == (3, ())
    saved["b"][2] = torch.nextafter(saved["b"][2], torch.tensor(0.0))
    found = compare_saved(found, now, saved)
    assert (found.saved, found.differing) == (2, ("b",))
