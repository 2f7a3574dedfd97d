"""Stragglers: workers that take much longer to compute their leaves than the others do."""

import statistics
from collections import deque
from collections.abc import Mapping

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import seconds

_WARMUP = 3  # the first steps allocate memory and fill caches
_WINDOW = 15  # steps in a median: eight slow ones are no accident
_RATIO = 3.0
_NOTICED_S = 0.02  # a smaller difference does not matter, whatever the ratio


class Stragglers:
    """Notices a worker that takes three times as long as the median of the others.

    Each is reported once. Medians of several steps are compared, so a pause does not matter.
    """

    def __init__(self) -> None:
        self._num = 0
        self._recent: dict[int, deque[float]] = {}
        self._told: set[int] = set()

    def add(self, leaf_s: Mapping[int, float]) -> list[Finding]:
        """Count one more step; returns what to tell.

        Args:
            leaf_s: seconds per leaf, by rank; workers without leaves are left out.
        """
        self._num += 1
        if self._num <= _WARMUP:
            return []
        for rank, took_s in leaf_s.items():
            self._recent.setdefault(rank, deque(maxlen=_WINDOW)).append(took_s)
        usual_s = {
            rank: statistics.median(recent)
            for rank, recent in self._recent.items()
            if len(recent) == _WINDOW
        }
        return [
            self._tell(rank, own_s, others_s)
            for rank, own_s in usual_s.items()
            if (others_s := _others(usual_s, rank)) is not None
            and own_s >= _RATIO * others_s
            and own_s - others_s >= _NOTICED_S
            and rank not in self._told
        ]

    def _tell(self, rank: int, own_s: float, others_s: float) -> Finding:
        self._told.add(rank)
        ratio = own_s / max(others_s, 1e-9)
        return Finding(
            "warning",
            f"worker {rank} takes {ratio:.1f} times as long to compute as the others",
            have=f"{seconds(own_s)} for each of its leaves, {seconds(others_s)} elsewhere "
            f"(medians of {_WINDOW} steps): all wait for it",
            need="workers that are equally fast",
            remedies=(
                Remedy("headway doctor", "shows other work, steal and throttling"),
                Remedy("headway status --workers", "who computes and who waits"),
            ),
            cause=Cause.STRAGGLER,
        )


def _others(usual_s: Mapping[int, float], rank: int) -> float | None:
    """The median of all ranks but one; None if there are no others."""
    others = [took_s for other, took_s in usual_s.items() if other != rank]
    return statistics.median(others) if others else None
