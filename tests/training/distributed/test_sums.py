"""Gradients one after the other in a buffer, and back."""

import torch
from tests.training.dispatched import launches

from headway.training.distributed.sums import fill, unfold

SHAPES = [torch.Size((2, 3)), torch.Size(()), torch.Size((4,))]


def test_what_is_filled_in_comes_back() -> None:
    gradients = [torch.randn(2, 3), torch.tensor(7.0), torch.randn(4)]
    flat = torch.empty(11)
    fill(flat, [6, 1, 4], gradients)
    read = unfold(flat, SHAPES, [True, True, True])
    for one, other in zip(read, gradients, strict=True):
        assert one is not None
        assert torch.equal(one, other)
    flat.zero_()
    assert read[1] == 7  # a copy


def test_no_gradient_adds_nothing_not_even_a_sign() -> None:
    flat = torch.empty(11)
    fill(flat, [6, 1, 4], [None, torch.tensor(1.0), None])
    assert torch.equal(
        torch.signbit(torch.tensor(-0.0) + flat[:6]), torch.ones(6, dtype=torch.bool)
    )
    read = unfold(flat, SHAPES, [False, True, False])
    assert (read[0], read[2]) == (None, None)
    assert read[1] == 1


def test_many_gradients_take_as_many_launches_as_few() -> None:
    def of(num: int) -> int:
        flat, gradients = torch.empty(3 * num), [torch.ones(3) for _ in range(num)]
        shapes = [one.shape for one in gradients]
        filled = launches(lambda: fill(flat, [3] * num, gradients)).total()
        return filled + launches(lambda: unfold(flat, shapes, [True] * num)).total()

    assert of(50) == of(2) > 0
