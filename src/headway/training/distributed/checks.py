"""Checks of what workers report: all are there, in one step, with the same rows and weights."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from headway.base.errors import BrokenContract, Cause, OurBug, Remedy, refusal_from
from headway.training.distributed.messages import WorkerReport


def check_reports(reports: Sequence[WorkerReport], workers: int, step: int) -> None:
    """Check that all are there, in this step, with a share, the same rows and the same weights.

    Args:
        reports: sorted by rank.
        workers: of the team.
        step: of the job.

    Raises:
        Refusal: they are not.
        OutOfMemoryError: a worker ran out of memory.
    """
    raise_problem(reports)
    if [report.rank for report in reports] != list(range(workers)):
        raise out_of_step("reports came from", [report.rank for report in reports])
    if any(report.step != step for report in reports):
        raise out_of_step(f"in step {step} reports were of", [r.step for r in reports])
    if odd := differing({r.rank: r.order for r in reports}):
        raise _orders_differ(step, odd)
    if odd := differing({r.rank: r.weights for r in reports}):
        raise weights_differ(step, odd)


def raise_problem(reports: Sequence[WorkerReport]) -> None:
    """Raise why a worker could not do its share, if one could not.

    Raises:
        Refusal: what it reported.
        OutOfMemoryError: it ran out of memory.
    """
    for report in reports:
        if report.problem and report.problem.refused:
            raise refusal_from(report.problem.refused)
    for report in reports:
        if report.problem:
            raise torch.OutOfMemoryError(f"worker {report.rank} ran out of memory")


def layout_of(parameters: Sequence[nn.Parameter]) -> int:
    """A checksum of the shapes and number formats of all trainable tensors, in order."""
    return zlib.crc32(repr([(tuple(p.shape), p.dtype) for p in parameters]).encode())


def check_layout(rank: int, parameters: Sequence[nn.Parameter], layout: int) -> None:
    """Check that a worker trains the same tensors as the root, before any are added up.

    Args:
        rank: of the worker.
        parameters: its trainable ones.
        layout: the root's.

    Raises:
        BrokenContract: it does not.
    """
    if layout_of(parameters) == layout:
        return
    kinds = Counter(f"{p.dtype}".removeprefix("torch.") for p in parameters)
    formats = ", ".join(f"{number} in {kind}" for kind, number in kinds.items())
    raise BrokenContract(
        f"worker {rank} has different tensors than the root",
        cause=Cause.WEIGHTS_DIFFER,
        have=f"{len(parameters)} trainable tensors ({formats}), with different shapes or formats",
        need="the same plan, model and packages for every worker",
        remedies=(Remedy("headway doctor", "shows the versions; run it where each worker runs"),),
    )


def differing(values: Mapping[int, int | None]) -> list[int]:
    """The ranks whose value is not the one that most have; those without one are left out."""
    known = {rank: value for rank, value in values.items() if value is not None}
    usual = Counter(known.values()).most_common(1)
    return [rank for rank, value in known.items() if value != usual[0][0]]


def out_of_step(what: str, numbers: Sequence[int]) -> OurBug:
    """The error of workers that are in different steps; `what` introduces the numbers."""
    return OurBug(
        f"the workers are not in the same step: {what} {', '.join(map(str, numbers))}",
        cause=Cause.BUG,
        have="reports that do not fit together",
        need="a bug report: this is our fault",
        remedies=(Remedy("the same command again", "resumes from the newest checkpoint"),),
    )


def _orders_differ(step: int, ranks: Sequence[int]) -> BrokenContract:
    return BrokenContract(
        f"worker {', '.join(map(str, ranks))} has different rows in step {step} than the others",
        cause=Cause.ORDER_DIFFERS,
        have=f"a different order of rows in {len(ranks)} of the workers",
        need="the same plan and the same data for every worker",
        remedies=(Remedy("the same command again", "resumes from the newest checkpoint"),),
    )


def weights_differ(step: int, ranks: Sequence[int]) -> BrokenContract:
    """The refusal to continue with workers whose weights differ.

    Args:
        step: before which they were compared.
        ranks: the fewer ones.
    """
    who = ", ".join(map(str, ranks))
    return BrokenContract(
        f"the weights of worker {who} differ from the others' before step {step}",
        cause=Cause.WEIGHTS_DIFFER,
        have=f"different bits in {len(ranks)} of the workers",
        need="the same bits in every worker; memory that keeps them",
        remedies=(Remedy("the same command again", "resumes from the newest checkpoint"),),
    )
