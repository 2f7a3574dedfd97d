"""Worker watch: which workers of this machine are gone, frozen or stuck."""

import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from headway.base.errors import Cause, Finding
from headway.base.process import ChildProcess
from headway.base.pulse import PulseReading, read_pulse, silent_pulse
from headway.base.units import seconds
from headway.runs.workers import WorkerTree
from headway.supervise.child import death_refusal
from headway.supervise.stalls.due import Due
from headway.supervise.stalls.explainer import Explainer
from headway.supervise.stalls.stall_watch import StallWatch


class WorkerWatch:
    """Looks at workers from outside, and ends those that the others would wait for forever.

    Args:
        tree: of all workers of the run.
        live: folder with the pulses.
        processes: those of this machine, by rank.
        waits_longer: how many times as long one may wait for others as it may compute. Others that
            run elsewhere are ended by who watches them there.
        explainer: finds out why one is not making progress.

    Attributes:
        stalls: those that make no progress.
    """

    def __init__(
        self,
        tree: WorkerTree,
        live: Path,
        processes: Mapping[int, ChildProcess],
        waits_longer: float = 1.0,
        explainer: Explainer | None = None,
    ) -> None:
        self._tree = tree
        self._live = live
        self._processes = processes
        self._told: set[int] = set()  # ranks that were told to be gone
        self.stalls = StallWatch(
            live,
            self._name,
            is_team=tree.workers > 1,
            waits_longer=waits_longer,
            explainer=explainer,
        )

    def take_losses(self, step_s: float | None = None) -> list[Finding]:
        """What happened to the workers since the last call.

        One that is frozen or stuck is killed, if new ones are to take its place. The root's
        own death is not told here.

        Args:
            step_s: seconds of a usual step; None before the first one.
        """
        findings: list[Finding] = []
        for rank, process in self._left():
            if process.exit_code:
                self._told.add(rank)
                refusal = death_refusal(process, self._name(rank), self._doing(rank))
                if rank and refusal.cause is not Cause.WORKER_LOST:  # another's, told itself
                    findings.append(_as_warning(refusal.finding()))
        pulses = [
            self._pulse_of(rank, process) for rank, process in self._left() if process.is_running
        ]
        self.stalls.look(pulses, step_s, missing=sorted(self._told))
        return findings + [self._kill(due, step_s) for due in self.stalls.take_due()]

    def _left(self) -> list[tuple[int, ChildProcess]]:
        return [(rank, p) for rank, p in self._processes.items() if rank not in self._told]

    def _kill(self, due: Due, step_s: float | None) -> Finding:
        rank = due.worker.rank
        finding = self._stopped(due) if due.is_stopped else self._stuck(due, step_s)
        self._told.add(rank)
        self._processes[rank].send_signal(signal.SIGCONT)
        self._processes[rank].send_signal(signal.SIGKILL)
        return finding

    def _stopped(self, due: Due) -> Finding:
        rank = due.worker.rank
        return Finding(
            "warning",
            f"{self._name(rank)} froze and was killed",
            have=f"stopped for {seconds(due.worker.silent_s)}, by SIGSTOP; it was "
            + self._doing(rank),
            cause=Cause.WORKER_LOST,
        )

    def _stuck(self, due: Due, step_s: float | None) -> Finding:
        stuck = due.worker
        usual = f"; a step usually takes {seconds(step_s)}" if step_s else ""
        all_wait = "all workers wait for one another" if stuck.waits_for_workers else ""
        return Finding(
            "warning",
            f"{self._name(stuck.rank)} got stuck and was killed",
            have=f"{all_wait or 'no progress'} for {seconds(stuck.silent_s)}{usual}; "
            f"{due.diagnosis.finding.what}; it was {self._doing(stuck.rank)}",
            cause=Cause.WORKER_LOST,
        )

    def _name(self, rank: int) -> str:
        if self._tree.workers == 1:
            return "the trainer"
        return f"worker {rank} of {self._tree.workers} (group {self._tree.group_of(rank)})"

    def _pulse_of(self, rank: int, process: ChildProcess) -> PulseReading:
        """Its pulse; one that was left by another process is none."""
        pulse = self._pulse(rank)
        return pulse if pulse and pulse.pid == process.pid else silent_pulse(process.pid, rank)

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
