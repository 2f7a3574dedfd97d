"""Tensor lists: many tensors added, scaled, copied or measured at once.

On a GPU an operation on a list is a few launches instead of one for each tensor. On a CPU it is a
loop over the tensors in C++, so the bits are those of one operation for each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_torch: Any = torch  # whose operations on lists have private names
_GROUP = 16 << 20  # numbers: in fp32, 64 MB


def groups(tensors: Sequence[Tensor], most: int = _GROUP) -> list[slice]:
    """Parts of a list whose copies take little memory.

    Args:
        tensors: the list.
        most: numbers of a part; a larger tensor is a part by itself.
    """
    begin, size, found = 0, 0, list[slice]()
    for at, tensor in enumerate(tensors):
        if at > begin and size + tensor.numel() > most:
            found.append(slice(begin, at))
            begin, size = at, 0
        size += tensor.numel()
    return [*found, slice(begin, len(tensors))] if tensors else []


@torch.no_grad()
def add_to(sums: Sequence[Tensor], addends: Sequence[Tensor]) -> None:
    """Add tensors to others in place, in the number format of the sums.

    Args:
        sums: updated in place; all in one number format.
        addends: of the same shapes, all in one number format. If it differs from that of the sums,
            a GPU copies them first, unless there is only one.
    """
    if not sums:
        return
    if sums[0].is_cuda and len(sums) > 1 and sums[0].dtype != addends[0].dtype:
        addends = converted(addends, sums[0].dtype)  # or they would be added one by one
    _torch._foreach_add_(list(sums), list(addends))


@torch.no_grad()
def converted(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Copies of tensors in a number format."""
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    copy_to(copies, tensors)
    return copies


@torch.no_grad()
def copy_to(copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copy tensors into others of the same shapes."""
    if copies:
        _torch._foreach_copy_(list(copies), list(tensors))


@torch.no_grad()
def scale(tensors: Sequence[Tensor], factor: float) -> None:
    """Multiply tensors in place."""
    if tensors:
        _torch._foreach_mul_(list(tensors), factor)


@torch.no_grad()
def norms(tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """(P,) the norm of each of P tensors.

    Args:
        tensors: on one device.
        dtype: squares are summed in; that of the tensors if not given.
    """
    if not tensors:
        return torch.zeros(0, dtype=dtype)
    each = _torch._foreach_norm(list(tensors), 2, dtype)  # noqa: SLF001
    return torch.stack(each)
