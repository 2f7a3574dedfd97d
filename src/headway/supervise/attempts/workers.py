"""Workers: the processes of a run that compute, how they are connected, and who is gone."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Finding
from headway.base.process import ChildProcess
from headway.base.process_id import is_stopped
from headway.base.pulse import PulseReading, read_pulse
from headway.base.units import seconds
from headway.runs.workers import Go, Reduction, WorkerTree
from headway.supervise.attempts.stuck import StuckWorker, StuckWorkers
from headway.supervise.child import death_refusal, torch_environment

_STOPPED_S = 5.0  # that a worker may stand still, as one that a debugger or SIGSTOP holds does


class Workers:
    """All workers of a run; rank 0 is the root, which logs and saves.

    They are connected before there is a plan, by sockets without a name that nobody else can open.

    Args:
        tree: of the workers.
        live: folder for their pulses and their standard error.
        adapters: import PEFT, too.

    Attributes:
        tree: of the workers.
        processes: by rank.
    """

    def __init__(self, tree: WorkerTree, live: Path, *, adapters: bool) -> None:
        self.tree = tree
        self._live = live
        self._told: set[int] = set()  # ranks that were told to be gone
        self._stuck_workers = StuckWorkers()
        self._stopped_since_s: dict[int, float] = {}
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

    @property
    def root(self) -> ChildProcess:
        """The process of rank 0."""
        return self.processes[0]

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
        """What happened to the workers of a team since the last call.

        One that stands still or is stuck is killed, so that the others do not wait for it. The
        root's own death is not told here, and one worker alone keeps nobody waiting.

        Args:
            step_s: seconds of a usual step; None before the first one.
        """
        findings: list[Finding] = []
        if len(self.processes) == 1:
            return findings
        for rank, process in self._left():
            if self._stands_still(rank, process):
                findings.append(self._kill(rank, self._stopped(rank)))
            elif process.exit_code:
                self._told.add(rank)
                refusal = death_refusal(process, self._name(rank), self._doing(rank))
                if rank and refusal.cause is not Cause.WORKER_LOST:  # another's, told itself
                    findings.append(_as_warning(refusal.finding()))
        pulses = [
            pulse
            for rank, process in self._left()
            if (pulse := self._pulse(rank)) and pulse.pid == process.pid and process.is_running
        ]
        stuck = self._stuck_workers.look(pulses, time.monotonic(), step_s)
        return findings + [self._kill(one.rank, self._stuck(one, step_s)) for one in stuck]

    def _left(self) -> list[tuple[int, ChildProcess]]:
        return [(rank, p) for rank, p in enumerate(self.processes) if rank not in self._told]

    def _kill(self, rank: int, why: Finding) -> Finding:
        self._told.add(rank)
        self.processes[rank].send_signal(signal.SIGCONT)
        self.processes[rank].send_signal(signal.SIGKILL)
        return why

    def _start(self, rank: int, adapters: bool) -> ChildProcess:
        memory = [] if self._memory < 0 else [self._memory]
        descriptors = [*self._links[rank].values(), *memory]
        return start_worker(rank, self._live, descriptors, adapters=adapters)

    def _stands_still(self, rank: int, process: ChildProcess) -> bool:
        if not is_stopped(process.pid):
            self._stopped_since_s.pop(rank, None)
            return False
        since_s = self._stopped_since_s.setdefault(rank, time.monotonic())
        return time.monotonic() - since_s > _STOPPED_S

    def _stopped(self, rank: int) -> Finding:
        return Finding(
            "warning",
            f"{self._name(rank)} stood still and was killed",
            have=f"stopped for {_STOPPED_S:g} s, by SIGSTOP or a debugger; it was "
            + self._doing(rank),
            cause=Cause.WORKER_LOST,
        )

    def _stuck(self, stuck: StuckWorker, step_s: float | None) -> Finding:
        usual = f"; a step usually takes {seconds(step_s)}" if step_s else ""
        all_wait = "all workers wait for one another" if stuck.waits_for_workers else ""
        return Finding(
            "warning",
            f"{self._name(stuck.rank)} is stuck and was killed",
            have=f"{all_wait or 'no progress'} for {seconds(stuck.silent_s)}{usual}; it was "
            + self._doing(stuck.rank),
            cause=Cause.WORKER_LOST,
        )

    def _name(self, rank: int) -> str:
        return f"worker {rank} of {self.tree.workers} (group {self.tree.group_of(rank)})"

    def _pulse(self, rank: int) -> PulseReading | None:
        return read_pulse(self._live / f"rank-{rank}.pulse")

    def _doing(self, rank: int) -> str:
        pulse = self._pulse(rank)
        if pulse is None:
            return ""
        waiting = f", waiting for {pulse.waiting}" if pulse.waiting else ""
        return f"{pulse.phase}{waiting}, after step {pulse.step}"


def _as_warning(finding: Finding) -> Finding:
    """What happened, without what to do about it: the run's own ending says that."""
    return replace(finding, kind="warning", need="", remedies=())


def start_worker(
    rank: int, live: Path, descriptors: Sequence[int] = (), *, adapters: bool
) -> ChildProcess:
    """Start a worker, which waits for a `Go`.

    Args:
        rank: of the worker.
        live: folder for its pulse and its standard error.
        descriptors: that it inherits.
        adapters: import PEFT, too.
    """
    pulse = live / f"rank-{rank}.pulse"
    pulse.unlink(missing_ok=True)  # of the worker whose place it takes
    return ChildProcess(
        "headway.training.worker",
        ["-", *(["--adapters"] if adapters else []), *(["--rank", str(rank)] if rank else [])],
        # The planner has downloaded what it needs by the time it starts.
        environment=torch_environment(offline=True),
        pulse=pulse,
        log=live / f"rank-{rank}.err",
        log_stdout=True,
        stdin=subprocess.PIPE,
        descriptors=descriptors,
    )


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
