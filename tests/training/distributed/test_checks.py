"""Reports that do not fit together name the worker that is different."""

from dataclasses import dataclass

import msgspec
import pytest
import torch
from torch import nn

from headway.base.errors import BrokenContract, Cause, MachineError, OurBug, message_of
from headway.training.distributed.checks import check_layout, check_reports, layout_of
from headway.training.distributed.messages import Problem, WorkerReport

FULL = message_of(MachineError("no room", cause=Cause.DISK_FULL))


@dataclass(frozen=True)
class Odd:
    """Four workers, one of which is different."""

    rank: int
    changes: dict[str, object]

    def reports(self) -> list[WorkerReport]:
        usual = [WorkerReport(rank, 3, weights=11, order=5) for rank in range(4)]
        usual[self.rank] = msgspec.structs.replace(usual[self.rank], **self.changes)
        return usual


@pytest.mark.parametrize(
    ("odd", "kind", "what"),
    [
        (Odd(2, {"step": 4}), OurBug, "in step 3 reports were of 3, 3, 4, 3"),
        (Odd(2, {"rank": 1}), OurBug, "reports came from 0, 1, 1, 3"),
        (Odd(0, {"order": 6}), BrokenContract, "worker 0 has different rows in step 3"),
        (Odd(3, {"weights": 12}), BrokenContract, "the weights of worker 3 differ"),
        (Odd(1, {"problem": Problem(FULL)}), MachineError, "no room"),
        (Odd(1, {"problem": Problem()}), torch.OutOfMemoryError, "worker 1 ran out of memory"),
    ],
)
def test_the_odd_one_is_named(odd: Odd, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind, match=what):
        check_reports(odd.reports(), 4, 3)


@pytest.mark.parametrize("changes", [{}, {"weights": None}, {"order": None}])
def test_what_one_did_not_compute_is_not_compared(changes: dict[str, object]) -> None:
    check_reports(Odd(1, changes).reports(), 4, 3)


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


@pytest.mark.parametrize(
    "other",
    [
        tensors((4, 2), (3,)),  # as many numbers in another shape
        tensors((2, 4), (3,), dtype=torch.bfloat16),
        tensors((3,), (2, 4)),
        tensors((2, 4)),
    ],
)
def test_another_shape_or_number_format_is_named_before_anything_is_added(
    other: list[nn.Parameter],
) -> None:
    layout = layout_of(tensors((2, 4), (3,)))
    check_layout(2, tensors((2, 4), (3,)), layout)
    with pytest.raises(BrokenContract, match="worker 2 has different tensors than the root"):
        check_layout(2, other, layout)
