"""Worker status: what each worker of a run is doing, and how it spent its time."""

from collections.abc import Sequence
from dataclasses import dataclass

from headway.base.host.utilization import Shares
from headway.base.pulse import PulseReading


@dataclass(frozen=True)
class WorkerStatus:
    """What one worker of a run is doing. Ages in seconds."""

    rank: int
    pid: int
    phase: str
    phase_since_s: float
    waiting_for: str  # "" unless it is waiting
    waiting_since_s: float
    step: int  # finished steps of this job
    last_news_s: float  # since its last beat
    shares: Shares = Shares()  # noqa: RUF009 - frozen

    @classmethod
    def of(cls, pulse: PulseReading, now_s: float) -> "WorkerStatus":
        """What its pulse says at `now_s`."""
        return cls(
            rank=pulse.rank,
            pid=pulse.pid,
            phase=pulse.phase,
            phase_since_s=max(now_s - pulse.phase_since, 0.0),
            waiting_for=pulse.waiting,
            waiting_since_s=now_s - pulse.waiting_since if pulse.waiting else 0.0,
            step=pulse.step,
            last_news_s=max(now_s - pulse.updated, 0.0),
            shares=pulse.spent(now_s).shares,
        )


def statuses_of(pulses: Sequence[PulseReading], now_s: float) -> tuple[WorkerStatus, ...]:
    """The status of each worker, by rank; of none if there is only one."""
    if len(pulses) < 2:
        return ()
    by_rank = sorted(pulses, key=lambda pulse: pulse.rank)
    return tuple(WorkerStatus.of(pulse, now_s) for pulse in by_rank)
