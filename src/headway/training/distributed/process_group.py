"""Process group: torch.distributed among the workers, with waits that can be seen and ended.

A gloo operation cannot be waited for in slices: the first slice that ends without it closes the
connections. So a thread of its own waits, and the training thread looks on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed import FileStore, Store  # pyright: ignore[reportPrivateImportUsage]

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.host.background import in_background
from headway.base.host.utilization import Activity
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree

_SLICE_S = 0.25
_LONGEST = timedelta(days=30)  # of torch's own limits: waits are bounded here, by progress


class ProcessGroup:
    """All workers of a run, as torch.distributed connects them.

    All ranks make it at the same time. What they have to make together, like groups within it, is
    made here: later, a member waits for the root's decisions, and nobody may wait for it.

    Args:
        store: in which they meet.
        tree: of the workers.
        rank: of this one.
        device: that tensors are on.
        pulse: says what is waited for.
        on_wait: called while others are waited for; may end the wait with an exception.
    """

    def __init__(
        self,
        store: Store,
        tree: WorkerTree,
        rank: int,
        device: str,
        pulse: Pulse,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.rank = rank
        self._pulse = pulse
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"

        def connect() -> None:
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=tree.workers, timeout=_LONGEST
            )
            if 1 < tree.groups < tree.workers:
                self._levels = _Levels(tree, rank)

        self._levels: _Levels | None = None
        self.run(connect, "the other workers", on_wait)

    @classmethod
    def in_file(
        cls,
        path: Path,
        tree: WorkerTree,
        rank: int,
        device: str,
        pulse: Pulse,
        on_wait: Callable[[], None] = lambda: None,
    ) -> "ProcessGroup":
        """The workers of one machine, which meet in a file that is not there yet."""
        return cls(FileStore(str(path), tree.workers), tree, rank, device, pulse, on_wait)

    def send(self, tensor: Tensor, rank: int) -> None:
        """Send a tensor to a rank; called within `run`."""
        dist.send(tensor, rank)

    def receive(self, tensor: Tensor, rank: int) -> None:
        """Receive a tensor of this shape from a rank; called within `run`."""
        dist.recv(tensor, rank)

    def broadcast(self, tensor: Tensor) -> None:
        """Give every rank the root's tensor; called within `run`."""
        dist.broadcast(tensor, 0)

    def all_reduce(self, tensor: Tensor) -> None:
        """Add up a tensor over all ranks; called within `run`.

        With several groups, each adds up by itself first, then their leaders: where groups are
        machines, the slow links carry each sum once.
        """
        if self._levels:
            self._levels.all_reduce(tensor)
        else:
            dist.all_reduce(tensor)

    def run(
        self, communicate: Callable[[], None], what: str, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """Communicate in another thread, and wait for it in slices.

        Args:
            communicate: what all ranks do at the same time.
            what: is waited for, in the pulse.
            on_wait: called in each slice; may end the wait with an exception. Then the group
                cannot be used any more.

        Raises:
            MachineError: a worker is gone.
        """
        future = in_background("communicate", communicate)
        with self._pulse.activity(Activity.PEERS):
            if wait([future], _SLICE_S).not_done:
                with self._pulse.waiting(what):
                    while wait([future], _SLICE_S).not_done:
                        self._pulse.beat()
                        on_wait()
        try:
            future.result()
        except Exception as error:
            raise _broken(error) from error


class _Levels:
    """Two levels: the workers of each group, and the leaders of the groups."""

    def __init__(self, tree: WorkerTree, rank: int) -> None:
        own = tree.group_of(rank)
        self._leader = tree.members(own)[0]
        self._leads = self._leader == rank
        # Every rank makes all of them, in the same order.
        groups = [_new(tree.members(number)) for number in range(tree.groups)]
        self._leaders = _new([tree.members(number)[0] for number in range(tree.groups)])
        self._group = groups[own]

    def all_reduce(self, tensor: Tensor) -> None:
        dist.reduce(tensor, self._leader, group=self._group)
        if self._leads:
            dist.all_reduce(tensor, group=self._leaders)
        dist.broadcast(tensor, self._leader, group=self._group)


def _new(ranks: Sequence[int]) -> Any:
    """A group of ranks; what torch gives those outside it is never used."""
    return dist.new_group(list(ranks))


def _broken(error: Exception) -> MachineError:
    return MachineError(
        "the connection to another worker broke",
        cause=Cause.WORKER_LOST,
        have=str(error).partition("\n")[0],
        need="every worker, from the first step to the last",
        remedies=(Remedy("the same command again", "continues from the last checkpoint"),),
    )
