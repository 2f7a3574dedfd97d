"""Lists of tensors: the bits are those of one operation for each."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headway.model.kernels.tensor_lists import add_to, converted, copy_to, groups, norms, scale

SHAPES = [(), (0,), (7,), (33, 5), (300, 400), (1 << 20,)]


def drawn(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """Numbers of very different sizes; one tensor is transposed."""
    draws = torch.Generator().manual_seed(seed)
    each = [torch.randn(shape, generator=draws) * 10.0**n for n, shape in enumerate(SHAPES)]
    return [one.to(dtype).T if one.ndim == 2 else one.to(dtype) for one in each]


def same(found: Any, wanted: Any) -> bool:
    return all(
        a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sums_are_those_of_one_addition_each(dtype: torch.dtype) -> None:
    sums = drawn()
    add_to(sums, drawn(dtype, seed=1))
    assert same(sums, [a + b for a, b in zip(drawn(), drawn(dtype, seed=1), strict=True)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_norms_are_those_of_each(dtype: torch.dtype) -> None:
    wanted = [torch.linalg.vector_norm(one, dtype=dtype) for one in drawn()]
    assert torch.equal(norms(drawn(), dtype), torch.stack(wanted))


def test_copies_are_those_of_each_in_memory_of_their_own() -> None:
    rounded = drawn(torch.bfloat16)
    exact = converted(rounded, torch.float32)
    assert same(exact, [one.float() for one in rounded])
    copy_to(rounded, drawn(seed=1))
    assert same(rounded, [one.bfloat16() for one in drawn(seed=1)])
    assert same(exact, [one.float() for one in drawn(torch.bfloat16)])


def test_a_factor_is_that_of_each() -> None:
    scaled = drawn()
    scale(scaled, 1 / 3)
    assert same(scaled, [one * (1 / 3) for one in drawn()])


@pytest.mark.parametrize(
    "do",
    [
        lambda: add_to([], []),
        lambda: copy_to([], []),
        lambda: converted([], torch.float32),
        lambda: scale([], 2.0),
        lambda: norms([]).tolist(),
        lambda: groups([]),
    ],
)
def test_an_empty_list_is_nothing_to_do(do: Callable[[], Any]) -> None:
    assert not do()


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([4, 4, 4], [slice(0, 2), slice(2, 3)]),
        ([20, 4, 4], [slice(0, 1), slice(1, 3)]),
        ([4, 20, 4], [slice(0, 1), slice(1, 2), slice(2, 3)]),
        ([0, 10, 0], [slice(0, 3)]),
    ],
)
def test_groups_hold_few_numbers_or_one_tensor(sizes: list[int], wanted: list[slice]) -> None:
    assert groups([torch.empty(size) for size in sizes], 10) == wanted


def test_nothing_of_it_is_part_of_a_graph() -> None:
    weights = [torch.ones(3, requires_grad=True)]
    copies = [torch.zeros(3)]
    copy_to(copies, weights)
    assert not copies[0].requires_grad
    assert not norms(weights).requires_grad
