"""Silence: how long each process of a job has shown nothing new, and who is to blame for it.

A worker that computes beats in its pulse with each micro-batch. The beats of a wait prove only that
it waits, so a wait is as old as its beginning. The training thread itself beats; nothing else can
make a stuck worker look alive.

Time counts only while somebody looks: one look counts a second at most, so a supervisor that was
stopped has seen nothing, and a machine that slept makes all silences begin anew.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from headway.base.host.utilization import Activity
from headway.base.pulse import PulseReading

_LOOK_S = 1.0  # that one look counts at most
_SLEPT_S = 1.0  # a difference of the clocks that is a sleep


@dataclass(frozen=True)
class StuckWorker:
    """A worker that is not making progress.

    Attributes:
        rank: of the worker.
        silent_s: how long.
        waits_for_workers: it waits for others, as all of them do.
    """

    rank: int
    silent_s: float
    waits_for_workers: bool = False


@dataclass(frozen=True)
class Moment:
    """When it is looked, and what of the time since the last look counts against a process.

    Attributes:
        now_s: time.monotonic().
        suspended_s: that the machine has slept so far.
        counted: share of the time, by pid: 0 while a debugger holds it, less than 1 while others
            have the cores that it wants; 1 unless given.
    """

    now_s: float
    suspended_s: float = 0.0
    counted: Mapping[int, float] = field(default_factory=dict[int, float])


@dataclass
class _Silence:
    sign: object
    kind: str
    seen_s: float = 0.0
    counted_s: float = 0.0


class Silences:
    """The silences of a team's workers.

    Attributes:
        longest_s: the longest silence that ended by itself, by what the worker did.
    """

    def __init__(self) -> None:
        self.longest_s: dict[str, float] = {}
        self._by_rank: dict[int, _Silence] = {}
        self._last: Moment | None = None

    def look(
        self, pulses: Sequence[PulseReading], moment: Moment, stalled: Set[int] = frozenset()
    ) -> set[int]:
        """Look at the pulses once more.

        Args:
            pulses: of all workers that run.
            moment: of this look.
            stalled: ranks whose silence was no healthy one: nothing is learned from it.

        Returns:
            The ranks that have shown something new since the last look.
        """
        last, self._last = self._last, moment
        slept = last is not None and moment.suspended_s - last.suspended_s > _SLEPT_S
        passed_s = 0.0 if last is None or slept else min(moment.now_s - last.now_s, _LOOK_S)
        moved: set[int] = set()
        for pulse in pulses:
            silence, sign = self._by_rank.get(pulse.rank), _sign(pulse)
            if silence is None or slept or silence.sign != sign:
                moved.add(pulse.rank)
                if silence and not slept and pulse.rank not in stalled:
                    self._learn(silence.kind, silence.counted_s + passed_s)
                self._by_rank[pulse.rank] = _Silence(sign, kind_of(pulse))
            else:
                silence.seen_s += passed_s
                silence.counted_s += passed_s * moment.counted.get(pulse.pid, 1.0)
        return moved

    def _learn(self, kind: str, silent_s: float) -> None:
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), silent_s)

    def seen_s(self, rank: int) -> float:
        """How long a worker has been silent."""
        silence = self._by_rank.get(rank)
        return silence.seen_s if silence else 0.0

    def late(
        self,
        pulses: Sequence[PulseReading],
        limit_s: Callable[[PulseReading], float],
        *,
        counted: bool = False,
    ) -> list[StuckWorker]:
        """The workers that are silent for too long, without those that wait for others.

        Args:
            pulses: as they were last looked at.
            limit_s: how long a worker may be silent.
            counted: of the time that counts against it, not of all.
        """

        def silent_s(one: PulseReading) -> float:
            silence = self._by_rank[one.rank]
            return silence.counted_s if counted else silence.seen_s

        late = [one for one in pulses if silent_s(one) > limit_s(one)]
        stuck = [one for one in late if not waits_for_workers(one)]
        if not stuck and len(late) == len(pulses):
            # No worker makes progress, and none is to blame: it ends with the first of them.
            return [StuckWorker(one.rank, self.seen_s(one.rank), True) for one in late[:1]]
        return [StuckWorker(one.rank, self.seen_s(one.rank)) for one in stuck]


def waits_for_workers(pulse: PulseReading) -> bool:
    """Whether it waits for another worker."""
    return Activity.parse(pulse.activity) is Activity.PEERS


def kind_of(pulse: PulseReading) -> str:
    """What a worker does, as far as it decides how long it may be silent."""
    what = pulse.activity or ("waiting" if pulse.waiting else "")
    return f"{pulse.phase}, {what}" if what else pulse.phase


def _sign(pulse: PulseReading) -> object:
    """What changes when a worker makes progress."""
    if pulse.waiting:
        return pulse.pid, pulse.phase, pulse.waiting, pulse.waiting_since
    return pulse.pid, pulse.phase, pulse.beat
