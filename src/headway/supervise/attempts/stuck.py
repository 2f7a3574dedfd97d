"""Stuck workers: how long one may not get on, and who is to blame when none does.

A worker that computes beats in its pulse with each micro-batch. The beats of a wait prove only that
it waits, so a wait is as old as its beginning. What a worker does decides how long it may take, and
in training the run's own steps do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headway.base.host.utilization import Activity
from headway.base.pulse import Phase, PulseReading

STEPS = 20  # usual steps in which a worker that is trained with has to show something
FLOOR_S = 60.0  # however short a step is: a machine may be busy with something else
FIRST_S = 600.0  # for the first step, which allocates and compiles, and for the rows of any step
OTHER_S = 1800.0  # for anything else: a large model is loaded, saved or audited without a beat
_LOOK_S = 1.0  # that one look counts at most: a supervisor that was stopped has seen nothing


@dataclass(frozen=True)
class StuckWorker:
    """A worker that does not get on.

    Attributes:
        rank: of the worker.
        silent_s: how long.
        waits_for_workers: it waits for others, as all of them do.
    """

    rank: int
    silent_s: float
    waits_for_workers: bool = False


class StuckWorkers:
    """Finds the workers of a team that are stuck, by their pulses.

    Args:
        waits_longer: how many times as long one may wait for others as it may compute.
    """

    def __init__(self, waits_longer: float = 1.0) -> None:
        self._waits_longer = waits_longer
        self._signs: dict[int, object] = {}
        self._silent_s: dict[int, float] = {}
        self._looked_s: float | None = None

    def look(
        self, pulses: Sequence[PulseReading], now_s: float, step_s: float | None
    ) -> list[StuckWorker]:
        """Look at the pulses once more; returns the workers that are stuck.

        Args:
            pulses: of all workers that run.
            now_s: time.monotonic().
            step_s: seconds of a usual step; None before the first one.
        """
        passed_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, _LOOK_S)
        self._looked_s = now_s
        for pulse in pulses:
            sign = _sign(pulse)
            silent_s = self._silent_s.get(pulse.rank, 0.0) + passed_s
            self._silent_s[pulse.rank] = silent_s if self._signs.get(pulse.rank) == sign else 0.0
            self._signs[pulse.rank] = sign
        late = [one for one in pulses if self._silent_s[one.rank] > self._limit_s(one, step_s)]
        stuck = [one for one in late if not _waits_for_workers(one)]
        if not stuck and len(late) == len(pulses):
            # Nobody gets on, and nobody is to blame: it ends with the first of them.
            return [StuckWorker(one.rank, self._silent_s[one.rank], True) for one in late[:1]]
        return [StuckWorker(one.rank, self._silent_s[one.rank]) for one in stuck]

    def _limit_s(self, pulse: PulseReading, step_s: float | None) -> float:
        longer = self._waits_longer if _waits_for_workers(pulse) else 1.0
        return longer * limit_s(pulse, step_s)


def limit_s(pulse: PulseReading, step_s: float | None) -> float:
    """How long a worker may go on as it does now, seconds."""
    if pulse.phase != Phase.TRAINING:
        return OTHER_S
    if step_s is None or Activity.parse(pulse.activity) is Activity.DATA:
        return FIRST_S
    return max(FLOOR_S, STEPS * step_s)


def _waits_for_workers(pulse: PulseReading) -> bool:
    return Activity.parse(pulse.activity) is Activity.PEERS


def _sign(pulse: PulseReading) -> object:
    """What changes when a worker gets on."""
    if pulse.waiting:
        return pulse.pid, pulse.phase, pulse.waiting, pulse.waiting_since
    return pulse.pid, pulse.phase, pulse.beat
