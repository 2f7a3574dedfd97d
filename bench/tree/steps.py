"""Steps of many workers in one, two and three levels: who reports to whom, and how long."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tree.costs import Costs, Link, levels_s, pairwise_s, ring_s, shared_memory_s
from tree.events import Mark, Meet, Operation, Program, Receive, Send, Simulation, Work

from headway.runs.workers import WorkerTree, nodes_of

PER_MACHINE = 8
PER_POD = 256  # workers of the machines that share the middle level
SPREAD = 0.03  # of the time that workers take for equal work; assumed
LAYOUTS = {"flat": (), "two levels": (PER_MACHINE,), "three levels": (PER_POD, PER_MACHINE)}
Parent = Callable[[int], int | None]


@dataclass(frozen=True)
class Tree:
    """Who reports to whom.

    Args:
        workers: all of them.
        parent_of: the rank that a rank reports to; None for the root.

    Attributes:
        children: of each rank.
        below: ranks below each, itself included.
    """

    workers: int
    parent_of: Parent
    children: tuple[tuple[int, ...], ...]
    below: tuple[int, ...]

    @classmethod
    def of(cls, workers: int, parent_of: Parent) -> "Tree":
        """The tree that a parent of each rank makes; a parent has a lower rank."""
        children: list[list[int]] = [[] for _ in range(workers)]
        below = [1] * workers
        for rank in reversed(range(1, workers)):
            parent = parent_of(rank)
            assert parent is not None, "only rank 0 is the root"
            children[parent].append(rank)
            below[parent] += below[rank]
        return cls(workers, parent_of, tuple(tuple(one[::-1]) for one in children), tuple(below))


def parent_in(units: Sequence[int]) -> Parent:
    """The parent of a rank where each group of a level reports to its first rank.

    Args:
        units: workers of a group, the largest groups first; nothing: all report to the root.
    """

    def parent_of(rank: int) -> int | None:
        for unit in reversed(units):
            if rank % unit:
                return rank - rank % unit
        return 0 if rank else None

    return parent_of


def exchange(rank: int, tree: Tree, costs: Costs, losses: int, *, reports: bool) -> Program:
    """Reports up to the root and its decision down, as Headway's links carry them.

    Args:
        rank: whose program.
        tree: of the workers.
        costs: of a message.
        losses: in the decision.
        reports: each worker has one; otherwise it only says that it is there.
    """
    for child in tree.children[rank]:
        yield Receive(child, costs.receive_reports_s(reports * tree.below[child]))
    parent = tree.parent_of(rank)
    if parent is None:
        yield Work(reports * tree.workers * costs.root_report_s)
    else:
        yield Send(parent, costs.send_reports_s(reports * tree.below[rank]))
        yield Receive(parent, costs.receive_decision_s(losses))
    for number, child in enumerate(tree.children[rank]):
        yield Send(child, costs.send_decision_s(losses, first=not number))


# -- one machine: what is checked against real runs


@dataclass(frozen=True)
class MachineStep:
    """A step of some workers on one machine, in Headway's default reduction.

    Attributes:
        tree: as Headway has it.
        num_leaves: of the step.
        num_bytes: of all gradients.
        leaf_s: seconds that a leaf takes.
        update_s: seconds that an update takes.
    """

    tree: WorkerTree
    num_leaves: int
    num_bytes: float
    leaf_s: float = 0.0
    update_s: float = 0.0

    def programs(self, costs: Costs) -> list[Program]:
        """What each worker does."""
        tree = Tree.of(self.tree.workers, self.tree.parent_of)
        return [self._program(rank, tree, costs) for rank in range(tree.workers)]

    def _program(self, rank: int, tree: Tree, costs: Costs) -> Program:
        own = self.tree.leaves_of(rank, self.num_leaves)
        sums = len(self.tree.nodes(self.num_leaves))
        part = self.num_bytes / self.tree.workers
        add_s = part * ((sums - 1) * costs.add_byte_s + costs.copy_byte_s)
        yield Work(len(own) * self.leaf_s)
        yield Mark("computed")
        written = len(nodes_of(own)) * self.num_bytes
        yield Work(written * costs.copy_byte_s + costs.worker_s / 2)
        yield from exchange(rank, tree, costs, self.num_leaves, reports=True)
        yield Mark("reported")
        yield Work(add_s)
        yield from exchange(rank, tree, costs, 0, reports=False)
        yield Mark("added")
        yield Work(self.num_bytes * costs.clone_byte_s + costs.worker_s / 2)
        yield Mark("summed")
        yield Work(self.update_s)
        yield Mark("done")

    def marks(self, costs: Costs) -> dict[str, float]:
        """When the last worker reached each mark."""
        workers = self.tree.workers
        simulation = Simulation(self.programs(costs), costs.cores, workers, costs.latency_s)
        marks = simulation.run()
        return {name: max(one[name] for one in marks) for name in marks[0]}

    def core_seconds(self, costs: Costs) -> float:
        """Seconds of a core that all workers together use."""
        programs = self.programs(costs)
        return sum(_core_s(operation) for program in programs for operation in program)


def _core_s(operation: Operation) -> float:
    return operation.seconds if isinstance(operation, Work | Send | Receive) else 0.0


# -- many machines: what is only simulated


@dataclass(frozen=True)
class Cluster:
    """Machines, what connects them, and what they train; all of it assumed but the messages.

    Attributes:
        name: in the tables.
        inside: link of a worker to the others of its machine.
        across: of a worker to other machines, while all workers of its machine use theirs.
        ring: between two machines, for one ring over all workers.
        num_bytes: of all gradients.
        compute_s: of a worker in a step, at the median.
    """

    name: str
    inside: Link
    across: Link
    ring: Link
    num_bytes: float
    compute_s: float

    def reduction_s(self, layout: str, workers: int) -> float:
        """Seconds to add the gradients of all workers up, none of it beside the computing."""
        machines = max(1, workers // PER_MACHINE)
        if machines == 1:
            return ring_s(workers, self.num_bytes, self.inside)
        pods = max(1, workers // PER_POD)
        if layout == "flat":
            slowest = min(self.ring, self.inside, key=lambda link: link.bytes_per_s)
            return ring_s(workers, self.num_bytes, Link(slowest.bytes_per_s, self.ring.latency_s))
        if layout == "two levels" or pods == 1:
            return levels_s((PER_MACHINE, machines), self.num_bytes, (self.inside, self.across))
        sizes = (PER_MACHINE, PER_POD // PER_MACHINE, pods)
        return levels_s(sizes, self.num_bytes, (self.inside, self.across, self.across))

    def pairwise_reduction_s(self, workers: int) -> float:
        """Seconds of the tree of whole buffers, which keeps the bits for any number of workers."""
        machines = max(1, workers // PER_MACHINE)
        inside = pairwise_s(min(workers, PER_MACHINE), self.num_bytes, self.inside)
        return inside + (pairwise_s(machines, self.num_bytes, self.ring) if machines > 1 else 0)


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step and of its parts."""

    step_s: float
    slowest_s: float  # longer than the median worker that the slowest one computes
    exchange_s: float  # both exchanges of reports and decisions
    reduction_s: float


def step_time(cluster: Cluster, layout: str, workers: int, costs: Costs, draws: int) -> StepTime:
    """The median of several steps.

    Args:
        cluster: machines and model.
        layout: one of `LAYOUTS`.
        workers: all of them, a whole number of machines.
        costs: of a message.
        draws: steps that are simulated, each with other times of computing.
    """
    tree = Tree.of(workers, parent_in(LAYOUTS[layout]))
    reduction_s = cluster.reduction_s(layout, workers)
    found: list[StepTime] = []
    for seed in range(draws):
        draw = random.Random(seed)  # the same for all layouts
        computing_S = [cluster.compute_s * draw.lognormvariate(0, SPREAD) for _ in range(workers)]
        programs = [
            _cluster_program(rank, tree, costs, computing_S[rank], reduction_s)
            for rank in range(workers)
        ]
        network_s = cluster.across.latency_s
        simulation = Simulation(programs, PER_MACHINE, PER_MACHINE, costs.latency_s, network_s)
        done_s = max(one["done"] for one in simulation.run())
        slowest_s = max(computing_S)
        parts = slowest_s - cluster.compute_s, done_s - slowest_s - reduction_s, reduction_s
        found.append(StepTime(done_s, *parts))
    return StepTime(
        *(
            median(getattr(one, name) for one in found)
            for name in ("step_s", "slowest_s", "exchange_s", "reduction_s")
        )
    )


def _cluster_program(
    rank: int, tree: Tree, costs: Costs, compute_s: float, reduction_s: float
) -> Program:
    yield Work(compute_s)
    yield Work(costs.worker_s)
    yield from exchange(rank, tree, costs, tree.workers, reports=True)
    yield Meet(reduction_s)
    yield from exchange(rank, tree, costs, 0, reports=False)
    yield Mark("done")


def shared_memory_link(costs: Costs, num_bytes: float) -> Link:
    """What the shared memory of a machine with a core for each worker is as a link of a ring."""
    total_s = shared_memory_s(costs, PER_MACHINE, PER_MACHINE, num_bytes) / PER_MACHINE
    moved = 2 * (PER_MACHINE - 1) / PER_MACHINE * num_bytes
    return Link(moved / total_s, costs.message_s + costs.latency_s)
