"""Workers: their tree of groups, the leaves of a step that each computes, and what they are told.

A step's gradient is a sum over leaves in one binary tree, the same for any number of workers. A
worker computes neighboring leaves and adds them up as far as the tree allows; `nodes_of` says which
partial sums that gives. What is left of the tree is added across workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

# How gradients of several workers are added. tree: in the plan's one tree, so that the bits do not
# depend on the workers. fast: by all-reduce. hsdp: sharded within a group, copies across groups.
Reduction = Literal["tree", "fast", "hsdp"]
OnStall = Literal["wait", "restart", "stop"]


@dataclass(frozen=True, order=True)
class Node:
    """A partial sum of the tree of leaves."""

    height: int  # 0: a single leaf
    index: int  # from the left, among the nodes of this height

    @property
    def leaves(self) -> range:
        """The leaves that it is the sum of."""
        return range(self.index << self.height, (self.index + 1) << self.height)

    @property
    def halves(self) -> tuple["Node", "Node"]:
        """The two nodes that it is the sum of."""
        below = self.height - 1
        return Node(below, 2 * self.index), Node(below, 2 * self.index + 1)


@dataclass(frozen=True)
class WorkerTree:
    """The workers of a run: rank 0 is the root, and each group's first rank leads the group.

    What workers report goes up to the leader of their group and from there to the root; what the
    root decides comes down the same way.

    Attributes:
        workers: processes that compute, the root included.
        groups: neighboring ranks together, in groups of equal size, give or take one.
    """

    workers: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        assert 1 <= self.groups <= self.workers, "a group has a worker"

    def members(self, group: int) -> range:
        """The ranks of a group."""
        size, more = divmod(self.workers, self.groups)
        begin = group * size + min(group, more)
        return range(begin, begin + size + (group < more))

    def group_of(self, rank: int) -> int:
        """The group of a rank."""
        size, more = divmod(self.workers, self.groups)
        in_larger = more * (size + 1)  # the first groups have one more
        return rank // (size + 1) if rank < in_larger else more + (rank - in_larger) // size

    def parent_of(self, rank: int) -> int | None:
        """The rank that a rank reports to; None for the root."""
        if rank == 0:
            return None
        leader = self.members(self.group_of(rank))[0]
        return 0 if rank == leader else leader

    def children_of(self, rank: int) -> tuple[int, ...]:
        """The ranks that report to a rank; of the root's, the leaders, who pass on, come first."""
        own = self.members(self.group_of(rank))
        if rank != own[0]:
            return ()
        leaders = (self.members(group)[0] for group in range(1, self.groups))
        return (*(leaders if rank == 0 else ()), *own[1:])

    def leaves_of(self, rank: int, num_leaves: int) -> range:
        """The leaves of a step that a rank computes; the root has one, however few there are."""
        begin, end = (-(-num_leaves * at // self.workers) for at in (rank, rank + 1))
        return range(begin, end)

    def nodes(self, num_leaves: int) -> list[Node]:
        """The partial sums of a step that the workers make each by itself, rank after rank."""
        ranks = range(self.workers)
        return [node for rank in ranks for node in nodes_of(self.leaves_of(rank, num_leaves))]

    def most_nodes(self, num_leaves: int) -> int:
        """The most partial sums that a step has, smaller steps included."""
        sizes = [1 << height for height in range(num_leaves.bit_length())]
        return max(len(self.nodes(size)) for size in sizes)

    def costs(self, leaves: Sequence[float]) -> tuple[float, ...]:
        """What each rank's leaves of a step cost, given the cost of each leaf."""
        shares = (self.leaves_of(rank, len(leaves)) for rank in range(self.workers))
        return tuple(sum(leaves[leaf] for leaf in own) for own in shares)


MENTIONED_IDLE = 0.005  # of the workers' time; less is not mentioned


@dataclass(frozen=True)
class Routed:
    """How the work of some steps was shared out.

    Attributes:
        costs: of each rank's leaves, by rank.
        most: cost of the busiest rank of each step, all steps together.
    """

    costs: tuple[float, ...] = ()
    most: float = 0.0

    def add(self, costs: Sequence[float]) -> "Routed":
        """One more step."""
        before = self.costs or (0.0,) * len(costs)
        together = tuple(a + b for a, b in zip(before, costs, strict=True))
        return Routed(together, self.most + max(costs))

    def share_of(self, rank: int) -> float:
        """A rank's share of all work."""
        return self.costs[rank] / max(sum(self.costs), 1e-9) if self.costs else 0.0

    def spare_of(self, rank: int) -> float:
        """Share of the time that a rank's work leaves free, until the busiest has done its own."""
        return 1 - self.costs[rank] / self.most if self.most else 0.0

    @property
    def spare(self) -> float:
        """The same, of all ranks together."""
        return 1 - sum(self.costs) / (len(self.costs) * self.most) if self.most else 0.0


def nodes_of(leaves: range) -> tuple[Node, ...]:
    """The fewest nodes of the tree that neighboring leaves make together, from the left."""
    nodes: list[Node] = []
    at = leaves.start
    while at < leaves.stop:
        height = 0
        while at % (2 << height) == 0 and at + (2 << height) <= leaves.stop:
            height += 1
        nodes.append(Node(height, at >> height))
        at += 1 << height
    return tuple(nodes)


@dataclass(frozen=True)
class Go:
    """The supervisor's message to a waiting worker: train this."""

    run: str  # the folder, with plan.json in it
    attempt: int
    began_s: float  # CLOCK_MONOTONIC at the start of the attempt
    spent_s: float = 0.0  # by earlier attempts of the same command
    rank: int = 0
    workers: int = 1
    groups: int = 1
    links: dict[int, int] = field(default_factory=dict[int, int])  # socket to each rank it talks to
    memory: int = -1  # descriptor of the memory that all workers share
    meeting: str = ""  # file in which torch.distributed connects them; "" if it need not
    launched: bool = False  # a launcher started the workers; the environment says how they meet


@dataclass(frozen=True)
class ReceiptWorker:
    """What one of several workers did in the steps of this attempt."""

    rank: int
    group: int
    rows: int  # counted each time they were trained
    computing: float  # shares of its time from the first step on; the rest is evaluating and such
    data: float = 0.0  # waiting for the rows of a step
    peers: float = 0.0  # waiting for other workers
    saving: float = 0.0
    cost: float = 0.0  # share of the work that was its own: tokens and their squares
    spare: float = 0.0  # share of the steps for which it had less work than the busiest worker
