"""Place of a process among the workers of a run: its rank, and what connects it to the others."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from headway.base.errors import RefusalMessage
from headway.base.host.launcher import launched_place
from headway.base.pulse import Pulse
from headway.runs.workers import Go, Reduction, WorkerTree
from headway.training.distributed.all_reduced_sums import AllReducedSums
from headway.training.distributed.links import Links
from headway.training.distributed.messages import Start
from headway.training.distributed.pairwise_sums import PairwiseSums
from headway.training.distributed.process_group import ProcessGroup
from headway.training.distributed.ranks import MemberTeam, RootTeam
from headway.training.distributed.rendezvous import meet, process_group
from headway.training.distributed.shared_sums import SharedSums
from headway.training.distributed.sums import Sums
from headway.training.distributed.team import Alone, LedTeam


@dataclass(frozen=True)
class TeamPlace:
    """Where a process stands in the tree of workers.

    Attributes:
        tree: of the workers.
        rank: of this process.
        links: to its parent and to the ranks below; None for a worker that is alone.
        memory: descriptor of the memory in which gradients are added.
        group: all workers, as torch.distributed connects them; None if they share memory alone.
    """

    tree: WorkerTree = WorkerTree()  # noqa: RUF009 - frozen
    rank: int = 0
    links: Links | None = None
    memory: int = -1
    group: ProcessGroup | None = None

    @classmethod
    def of(cls, go: Go, pulse: Pulse) -> "TeamPlace":
        """As the supervisor connected it, or as a launcher's processes find each other.

        Raises:
            MachineError: they do not.
        """
        tree = WorkerTree(go.workers, go.groups)
        if go.workers == 1:
            return cls()
        if go.launched:
            return cls._launched(tree, pulse)
        sockets = {rank: socket.socket(fileno=number) for rank, number in go.links.items()}
        links, group = Links(tree, go.rank, sockets, pulse), None
        if go.meeting:
            meeting = Path(go.meeting)
            group = ProcessGroup.in_file(meeting, tree, go.rank, "cpu", pulse, links.check)
        return cls(tree, go.rank, links, go.memory, group)

    @classmethod
    def _launched(cls, tree: WorkerTree, pulse: Pulse) -> "TeamPlace":
        place = launched_place(os.environ)
        assert place, "the supervisor has read it"
        sockets, store = meet(place, tree, pulse)
        links = Links(tree, place.rank, sockets, pulse)
        group = process_group(place, tree, store, "cpu", pulse, links.check)
        return cls(tree, place.rank, links, group=group)

    def lead(
        self,
        parameters: Sequence[nn.Parameter],
        num_leaves: int,
        reduction: Reduction,
        on_stop: Callable[[str], None],
    ) -> LedTeam:
        """The team as the root sees it.

        Args:
            parameters: the trainable ones.
            num_leaves: of a full step.
            reduction: how gradients are added.
            on_stop: called with who asked another worker to stop.
        """
        if self.links is None:
            return Alone()
        sums = self._sums(parameters, num_leaves, reduction)
        return RootTeam(self.tree, self.links, sums, parameters, on_stop)

    def join(
        self,
        parameters: Sequence[nn.Parameter],
        num_leaves: int,
        reduction: Reduction,
        start: Start,
        asked_to_stop: Callable[[], str],
        refuse: Callable[[Exception], RefusalMessage],
    ) -> MemberTeam:
        """The team as a member sees it; the arguments are those of `lead` and `MemberTeam`."""
        assert self.links, "a member is not alone"
        sums = self._sums(parameters, num_leaves, reduction)
        return MemberTeam(
            self.tree, self.rank, self.links, sums, parameters, start, asked_to_stop, refuse
        )

    def _sums(
        self, parameters: Sequence[nn.Parameter], num_leaves: int, reduction: Reduction
    ) -> Sums:
        shapes, device = [p.shape for p in parameters], str(parameters[0].device)
        if self.group is None:
            return SharedSums(self.tree, self.rank, num_leaves, shapes, self.memory)
        if reduction == "fast":
            return AllReducedSums(self.group, shapes, device)
        return PairwiseSums(self.tree, self.group, shapes, device)


ONLY_WORKER = TeamPlace()
