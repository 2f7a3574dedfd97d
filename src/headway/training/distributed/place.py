"""Place of a process among the workers of a run: its rank, and what connects it to the others."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from headway.base.errors import RefusalMessage
from headway.base.pulse import Pulse
from headway.runs.workers import Go, WorkerTree
from headway.training.distributed.links import Links
from headway.training.distributed.messages import Start
from headway.training.distributed.ranks import MemberTeam, RootTeam
from headway.training.distributed.shared_sums import SharedSums
from headway.training.distributed.team import Alone, LedTeam


@dataclass(frozen=True)
class TeamPlace:
    """Where a process stands in the tree of workers.

    Attributes:
        tree: of the workers.
        rank: of this process.
        links: to its parent and to the ranks below; None for a worker that is alone.
        memory: descriptor of the memory in which gradients are added.
    """

    tree: WorkerTree = WorkerTree()  # noqa: RUF009 - frozen
    rank: int = 0
    links: Links | None = None
    memory: int = -1

    @classmethod
    def of(cls, go: Go, pulse: Pulse) -> "TeamPlace":
        """As the supervisor connected it."""
        tree = WorkerTree(go.workers, go.groups)
        if go.workers == 1:
            return cls()
        sockets = {rank: socket.socket(fileno=number) for rank, number in go.links.items()}
        return cls(tree, go.rank, Links(tree, go.rank, sockets, pulse), go.memory)

    def lead(
        self,
        parameters: Sequence[nn.Parameter],
        num_leaves: int,
        on_stop: Callable[[str], None],
    ) -> LedTeam:
        """The team as the root sees it.

        Args:
            parameters: the trainable ones.
            num_leaves: of a full step.
            on_stop: called with who asked another worker to stop.
        """
        if self.links is None:
            return Alone()
        sums = self._sums(parameters, num_leaves)
        return RootTeam(self.tree, self.links, sums, parameters, on_stop)

    def join(
        self,
        parameters: Sequence[nn.Parameter],
        num_leaves: int,
        start: Start,
        asked_to_stop: Callable[[], str],
        refuse: Callable[[Exception], RefusalMessage],
    ) -> MemberTeam:
        """The team as a member sees it; the arguments are those of `MemberTeam`."""
        assert self.links, "a member is not alone"
        sums = self._sums(parameters, num_leaves)
        return MemberTeam(
            self.tree, self.rank, self.links, sums, parameters, start, asked_to_stop, refuse
        )

    def _sums(self, parameters: Sequence[nn.Parameter], num_leaves: int) -> SharedSums:
        shapes = [parameter.shape for parameter in parameters]
        return SharedSums(self.tree, self.rank, num_leaves, shapes, self.memory)


ONLY_WORKER = TeamPlace()
