"""Worker watch: which workers of this machine are gone, stand still or are stuck."""

import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Finding
from headway.base.process import ChildProcess
from headway.base.process_id import is_stopped
from headway.base.pulse import PulseReading, read_pulse
from headway.base.units import seconds
from headway.runs.workers import WorkerTree
from headway.supervise.attempts.stuck import StuckWorker, StuckWorkers
from headway.supervise.child import death_refusal

_STOPPED_S = 5.0  # that a worker may stand still, as one that a debugger or SIGSTOP holds does


class WorkerWatch:
    """Looks at workers from outside, and ends those that the others would wait for in vain.

    Args:
        tree: of all workers of the run.
        live: folder with the pulses.
        processes: those of this machine, by rank.
        waits_longer: how many times as long one may wait for others as it may compute. Others that
            run elsewhere are ended by who watches them there.
    """

    def __init__(
        self,
        tree: WorkerTree,
        live: Path,
        processes: Mapping[int, ChildProcess],
        waits_longer: float = 1.0,
    ) -> None:
        self._tree = tree
        self._live = live
        self._processes = processes
        self._told: set[int] = set()  # ranks that were told to be gone
        self._stuck_workers = StuckWorkers(waits_longer)
        self._stopped_since_s: dict[int, float] = {}

    def take_losses(self, step_s: float | None = None) -> list[Finding]:
        """What happened to the workers since the last call.

        One that stands still or is stuck is killed, so that the others do not wait for it. The
        root's own death is not told here.

        Args:
            step_s: seconds of a usual step; None before the first one.
        """
        findings: list[Finding] = []
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
        return [(rank, p) for rank, p in self._processes.items() if rank not in self._told]

    def _kill(self, rank: int, why: Finding) -> Finding:
        self._told.add(rank)
        self._processes[rank].send_signal(signal.SIGCONT)
        self._processes[rank].send_signal(signal.SIGKILL)
        return why

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
        return f"worker {rank} of {self._tree.workers} (group {self._tree.group_of(rank)})"

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
