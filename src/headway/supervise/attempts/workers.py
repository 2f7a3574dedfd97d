"""Workers: the processes of a run that compute, how they are connected, and who is gone."""

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Finding
from headway.base.process import ChildProcess, Spawn
from headway.runs.workers import Go, Reduction, WorkerTree
from headway.supervise.attempts.worker_watch import WorkerWatch
from headway.supervise.child import torch_environment
from headway.supervise.stalls.stall_watch import StallWatch


class Workers:
    """All workers of a run; rank 0 is the root, which logs and saves.

    They are connected before there is a plan, by sockets without a name that nobody else can open.

    Args:
        tree: of the workers.
        live: folder for their pulses and their standard error.
        adapters: import PEFT, too.
        early: a folder that one that is alone loads before there is a plan; "" for none.
        spawn: starts each of them.

    Attributes:
        tree: of the workers.
        processes: by rank.
    """

    def __init__(
        self,
        tree: WorkerTree,
        live: Path,
        *,
        adapters: bool,
        early: str = "",
        spawn: Spawn = subprocess.Popen,
    ) -> None:
        self.tree = tree
        self._early = early if tree.workers == 1 else ""
        self._live = live
        self._spawn = spawn
        links, ends = _connect(tree)
        self._links = {
            rank: {at: end.fileno() for at, end in own.items()} for rank, own in links.items()
        }
        with contextlib.ExitStack() as ours:
            for end in ends:
                ours.callback(end.close)  # so that a worker's death closes its socket
            self._memory = _memory() if tree.workers > 1 else -1
            if self._memory >= 0:
                ours.callback(os.close, self._memory)
            self.processes = [self._start(rank, adapters) for rank in range(tree.workers)]
        self._watch = WorkerWatch(tree, live, dict(enumerate(self.processes)))

    @property
    def root(self) -> ChildProcess:
        """The process of rank 0."""
        return self.processes[0]

    @property
    def stalls(self) -> StallWatch:
        """Those that make no progress."""
        return self._watch.stalls

    def send(self, go: Go, reduction: Reduction = "tree") -> None:
        """Tell all workers to train.

        Args:
            go: as for a worker that is alone.
            reduction: how they add gradients; the tree is in memory that they share.
        """
        needs_group = reduction != "tree" and self.tree.workers > 1
        for rank, process in enumerate(self.processes):
            place = replace(
                go,
                rank=rank,
                workers=self.tree.workers,
                groups=self.tree.groups,
                links=self._links[rank],
                memory=self._memory,
                meeting=str(self._live / f"meeting-{go.attempt}") if needs_group else "",
            )
            process.send(place)

    def take_losses(self, step_s: float | None = None) -> list[Finding]:
        """What happened to the workers since the last call; see `WorkerWatch`.

        The root's own death is not told here.

        Args:
            step_s: seconds of a usual step; None before the first one.
        """
        return self._watch.take_losses(step_s)

    def _start(self, rank: int, adapters: bool) -> ChildProcess:
        memory = [] if self._memory < 0 else [self._memory]
        descriptors = [*self._links[rank].values(), *memory]
        return start_worker(
            rank,
            self._live,
            descriptors,
            adapters=adapters,
            early=self._early,
            spawn=self._spawn,
        )


def start_worker(
    rank: int,
    live: Path,
    descriptors: Sequence[int] = (),
    *,
    adapters: bool,
    early: str = "",
    spawn: Spawn = subprocess.Popen,
) -> ChildProcess:
    """Start a worker, which waits for a `Go`.

    Args:
        rank: of the worker.
        live: folder for its pulse and its standard error.
        descriptors: that it inherits.
        adapters: import PEFT, too.
        early: a folder that it loads before there is a plan; "" for none.
        spawn: starts it.
    """
    pulse = live / f"rank-{rank}.pulse"
    pulse.unlink(missing_ok=True)  # of the worker whose place it takes
    return ChildProcess(
        "headway.training.worker",
        [
            "-",
            *(["--adapters"] if adapters else []),
            *(["--early", early] if early else []),
            *(["--rank", str(rank)] if rank else []),
        ],
        environment=worker_environment(),
        pulse=pulse,
        log=live / f"rank-{rank}.err",
        log_stdout=True,
        stdin=subprocess.PIPE,
        descriptors=descriptors,
        spawn=spawn,
    )


def worker_environment() -> dict[str, str]:
    """Variables of a worker; the planner has downloaded what it needs by the time it starts."""
    return torch_environment(offline=True)


def _connect(tree: WorkerTree) -> tuple[dict[int, dict[int, socket.socket]], list[socket.socket]]:
    """A pair of sockets for each rank and its parent: by rank, and all of them."""
    links: dict[int, dict[int, socket.socket]] = {rank: {} for rank in range(tree.workers)}
    for rank in range(1, tree.workers):
        parent = tree.parent_of(rank)
        assert parent is not None, "only the root has none"
        links[parent][rank], links[rank][parent] = socket.socketpair()
    return links, [end for own in links.values() for end in own.values()]


def _memory() -> int:
    """A descriptor of memory without a name; it is as long as its users make it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("headway-sums")
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())
