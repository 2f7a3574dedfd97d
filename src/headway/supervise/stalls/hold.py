"""Holds: what keeps a process from running through no fault of its own.

SIGSTOP, a debugger, and others that have the cores that it wants. Looked at only while a process is
silent, once a second.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.base.host.contention import CpuTimes, OtherWork, cpu_times, other_work
from headway.base.process_id import debugger_of, is_stopped

_EVERY_S = 1.0
_LEAST = 0.25  # of the time counts against a process that wants a core, however busy they are


@dataclass(frozen=True)
class Hold:
    """What keeps a process from running.

    Attributes:
        is_stopped: it was frozen by SIGSTOP.
        is_traced: a debugger has it.
        counted: share of the time that counts against it.
    """

    is_stopped: bool = False
    is_traced: bool = False
    counted: float = 1.0


class Holds:
    """Looks at silent processes.

    Args:
        times: reads the kernel's counters, for the watched processes.
    """

    def __init__(self, times: Callable[[tuple[int, ...]], CpuTimes | None] = cpu_times) -> None:
        self._times = times
        self._before: CpuTimes | None = None
        self._looked_s = float("-inf")
        self._holds: dict[int, Hold] = {}

    def look(self, pids: Sequence[int], now_s: float) -> dict[int, Hold]:
        """What keeps processes from running.

        Args:
            pids: of those that are silent.
            now_s: time.monotonic().
        """
        if not pids:
            self._before, self._holds = None, {}
        elif now_s - self._looked_s >= _EVERY_S or set(pids) - set(self._holds):
            self._looked_s = now_s
            before, self._before = self._before, self._times(tuple(pids))
            left = share_left(other_work(before, self._before))
            self._holds = {pid: _hold(pid, left) for pid in pids}
        return self._holds


def share_left(work: OtherWork | None) -> float:
    """Share of the cores' time that others left; 1 where nobody had to wait for a core."""
    if work is None or not work.facts():
        return 1.0
    taken = work.other_cores / max(work.cores, 1)
    return max(_LEAST, 1.0 - max(taken, work.steal, work.throttled))


def _hold(pid: int, left: float) -> Hold:
    if debugger_of(pid):
        return Hold(is_traced=True, counted=0.0)
    if is_stopped(pid):
        return Hold(is_stopped=True)
    return Hold(counted=left if left < 1.0 and _wants_a_core(pid) else 1.0)


def _wants_a_core(pid: int) -> bool:
    """Whether one of its threads runs, or would if it got a core."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                stat = (task / "stat").read_bytes()
                if stat.rpartition(b")")[2].split()[0] == b"R":
                    return True
    return False
