"""Discrete-event simulation of workers: cores that are shared, messages, and meeting points."""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SLICE_S = 0.004  # that a process computes before another one of the same machine has its turn


@dataclass(frozen=True)
class Work:
    """Compute."""

    seconds: float


@dataclass(frozen=True)
class Send:
    """Send a message."""

    to: int
    seconds: float  # of the sender's core


@dataclass(frozen=True)
class Receive:
    """Wait for the next message of a rank, and read it."""

    sender: int
    seconds: float  # of the receiver's core


@dataclass(frozen=True)
class Meet:
    """Wait until all ranks have come so far, and as long as what they then do together takes."""

    seconds: float


@dataclass(frozen=True)
class Mark:
    """Write down when this was reached."""

    name: str


Operation = Work | Send | Receive | Meet | Mark
Program = Iterator[Operation]
Task = tuple[int, float, Operation]  # rank, seconds of a core that are left, of which operation


@dataclass
class _Machine:
    free: int  # cores
    queue: deque[Task] = field(default_factory=deque[Task])


class Simulation:
    """One run of all programs.

    Args:
        programs: of each rank.
        cores: of a machine.
        per_machine: ranks on each machine, neighbors together.
        latency_s: of a message within a machine.
        network_s: more than that between two machines.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        cores: int,
        per_machine: int,
        latency_s: float,
        network_s: float = 0.0,
    ) -> None:
        self._programs = programs
        self._per_machine = per_machine
        num_machines = -(-len(programs) // per_machine)
        self._machines = [_Machine(cores) for _ in range(num_machines)]
        # A process that has a core to itself is never interrupted.
        self._slice_s = SLICE_S if per_machine > cores else float("inf")
        self._latency_s, self._network_s = latency_s, network_s
        self._events: list[tuple[float, int, str, object]] = []
        self._order = itertools.count()  # of events at the same time
        self._arrived: Counter[tuple[int, int]] = Counter()  # (sender, to)
        self._waiting: dict[tuple[int, int], Receive] = {}
        self._meeting: list[int] = []
        self.marks: list[dict[str, float]] = [{} for _ in programs]

    def run(self) -> list[dict[str, float]]:
        """The time of each mark, by rank.

        Raises:
            RuntimeError: somebody waits for ever.
        """
        for rank in range(len(self._programs)):
            self._go_on(rank, 0.0)
        ended_s = 0.0
        while self._events:
            ended_s, _, what, subject = heapq.heappop(self._events)
            match what, subject:
                case "computed", (int(rank), float(left_s), operation):
                    self._computed(rank, left_s, operation, ended_s)
                case "arrived", (int(sender), int(to)):
                    self._deliver(sender, to, ended_s)
                case "met", int(rank):
                    self._go_on(rank, ended_s)
                case _:
                    raise AssertionError(what)
        if self._waiting or self._meeting:
            raise RuntimeError(f"{len(self._waiting) + len(self._meeting)} ranks wait for ever")
        return self.marks

    def _push(self, at_s: float, what: str, subject: object) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), what, subject))

    def _go_on(self, rank: int, now_s: float) -> None:
        """Begin a rank's next operation."""
        for operation in self._programs[rank]:
            match operation:
                case Mark(name):
                    self.marks[rank][name] = now_s
                    continue
                case Work(seconds) | Send(_, seconds):
                    self._compute((rank, seconds, operation), now_s)
                case Receive(sender, seconds):
                    if self._arrived[sender, rank]:
                        self._arrived[sender, rank] -= 1
                        self._compute((rank, seconds, operation), now_s)
                    else:
                        self._waiting[sender, rank] = operation
                case Meet(seconds):
                    self._meet(rank, now_s + seconds)
            return

    def _meet(self, rank: int, at_s: float) -> None:
        self._meeting.append(rank)
        if len(self._meeting) == len(self._programs):
            for one in self._meeting:
                self._push(at_s, "met", one)
            self._meeting = []

    def _deliver(self, sender: int, to: int, now_s: float) -> None:
        operation = self._waiting.pop((sender, to), None)
        if operation is None:
            self._arrived[sender, to] += 1
        else:
            self._compute((to, operation.seconds, operation), now_s)

    def _compute(self, task: Task, now_s: float) -> None:
        """Use a core, once there is one."""
        machine = self._machines[task[0] // self._per_machine]
        if machine.free:
            machine.free -= 1
            self._start(task, now_s)
        else:
            machine.queue.append(task)

    def _start(self, task: Task, now_s: float) -> None:
        rank, left_s, operation = task
        part_s = min(left_s, self._slice_s)
        self._push(now_s + part_s, "computed", (rank, left_s - part_s, operation))

    def _computed(self, rank: int, left_s: float, operation: Operation, now_s: float) -> None:
        machine = self._machines[rank // self._per_machine]
        if left_s > 0:
            machine.queue.append((rank, left_s, operation))
        if machine.queue:
            self._start(machine.queue.popleft(), now_s)
        else:
            machine.free += 1
        if left_s > 0:
            return
        if isinstance(operation, Send):
            apart = rank // self._per_machine != operation.to // self._per_machine
            wait_s = self._latency_s + self._network_s * apart
            self._push(now_s + wait_s, "arrived", (rank, operation.to))
        self._go_on(rank, now_s)
