"""Headway's own workers on this machine: how long they take to exchange reports and add up."""

import os
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from tree.processes import Meeting, side_by_side

from headway.base.errors import message_of
from headway.base.host.utilization import Spent
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree, nodes_of
from headway.training.distributed.links import Links
from headway.training.distributed.messages import Begin, WorkerReport
from headway.training.distributed.ranks import CHECKED_STEPS, MemberTeam, RootTeam
from headway.training.distributed.shared_sums import SharedSums
from headway.training.distributed.team import Share

WARM_STEPS = 3


@dataclass(frozen=True)
class Measured:
    """What was measured of some steps without computing.

    Attributes:
        seconds: of a step by the clock, median.
        least: of all steps.
        core_seconds: of all workers together, of a step, on average.
    """

    seconds: float
    least: float
    core_seconds: float


def measure(
    tree: WorkerTree, num_leaves: int, shapes: Sequence[torch.Size], steps: int
) -> Measured:
    """Let workers add up gradients as in training, step after step, without computing them.

    Args:
        tree: of the workers, which are processes of their own.
        num_leaves: of each step.
        shapes: of the parameters.
        steps: that are timed.
    """
    assert steps + WARM_STEPS < CHECKED_STEPS, "no comparison of weights among them"
    sockets = _connected(tree)
    descriptor = os.memfd_create("bench-sums")

    def act(rank: int, meeting: Meeting) -> tuple[list[float], float]:
        torch.set_num_threads(1)
        parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
        links = Links(tree, rank, sockets[rank], Pulse())
        sums = SharedSums(tree, rank, num_leaves, shapes, descriptor)
        team = _team(tree, rank, links, sums, parameters)
        own = nodes_of(team.own(num_leaves))
        gradients = {node: [torch.ones(shape) for shape in shapes] for node in own}
        losses, rows = torch.zeros(len(team.own(num_leaves))), np.arange(8)
        if isinstance(team, RootTeam):
            team.begin(1, 2048)
        else:
            links.hear()
        ends: list[float] = []
        used_s = 0.0
        meeting.wait()
        for step in range(1, WARM_STEPS + steps + 1):
            if step == WARM_STEPS + 1:
                used_s = time.process_time()
            team.add_up(
                Share(step, num_leaves, losses, gradients, rows, 0, seconds=0.0), lambda: None
            )
            ends.append(time.perf_counter())
        used_s = time.process_time() - used_s
        meeting.wait()
        return ends[WARM_STEPS - 1 :], used_s

    try:
        found = side_by_side(tree.workers, act)
    finally:
        os.close(descriptor)
        for own in sockets.values():
            for end in own.values():
                end.close()
    ends = found[0][0]
    seconds = [after - before for before, after in pairwise(ends)]
    core_s = sum(used_s for _, used_s in found) / steps
    return Measured(statistics.median(seconds), min(seconds), core_s)


class _Unconnected:
    """Links of a root whose workers have all reported."""

    def __init__(self, reports: tuple[WorkerReport, ...]) -> None:
        self._reports = reports

    def gather(
        self, _: int, own: tuple[WorkerReport, ...], *__: object
    ) -> tuple[WorkerReport, ...]:
        return self._reports if own else ()  # the second time all only say that they are there

    def spent(self) -> Spent:
        return Spent()

    def decide(self, *_: object) -> None:
        pass


class _NoSums:
    """Sums of nothing."""

    def write(self, *_: object) -> None:
        pass

    def add(self, *_: object) -> None:
        pass

    def read(self, *_: object) -> list[None]:
        return []


def root_report_s(report: WorkerReport, few: int = 16, many: int = 2048) -> float:
    """Seconds that the root needs for each worker's report, once it is unpacked."""
    seconds = {num: _root_s(report, num) for num in (few, many)}
    return (seconds[many] - seconds[few]) / (many - few)


def _root_s(report: WorkerReport, num: int) -> float:
    reports = tuple(replace(report, rank=rank) for rank in range(num))
    links: Any = _Unconnected(reports)
    sums: Any = _NoSums()
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in report.with_gradient]
    team = RootTeam(WorkerTree(num), links, sums, parameters, lambda _: None)
    seconds: list[float] = []
    for _ in range(WARM_STEPS + 9):
        share = Share(report.step, num, torch.zeros(1), {}, np.arange(8), 0, seconds=0.0)
        used_s = time.process_time()
        team.add_up(share, lambda: None)
        seconds.append(time.process_time() - used_s)
    return statistics.median(seconds[WARM_STEPS:])


def _team(
    tree: WorkerTree,
    rank: int,
    links: Links,
    sums: SharedSums,
    parameters: Sequence[torch.nn.Parameter],
) -> RootTeam | MemberTeam:
    if rank == 0:
        return RootTeam(tree, links, sums, parameters, lambda _: None)
    begin = Begin(2, 1, 2048)
    return MemberTeam(tree, rank, links, sums, parameters, begin, lambda: "", message_of)


def _connected(tree: WorkerTree) -> dict[int, dict[int, socket.socket]]:
    """A pair of sockets for each rank and its parent."""
    sockets: dict[int, dict[int, socket.socket]] = {rank: {} for rank in range(tree.workers)}
    for rank in range(1, tree.workers):
        parent = tree.parent_of(rank)
        assert parent is not None, "only the root has none"
        sockets[parent][rank], sockets[rank][parent] = socket.socketpair()
    return sockets
