"""Other work on this machine: how much of the cores a run did not get, and who used it.

Two snapshots of the kernel's counters, and what lies between them: cores taken by other processes,
time that the host gave to other virtual machines (steal), time that a CPU quota took (throttling).
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from headway.base.machine import cgroup_folders

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
SATURATED = 0.9  # share of the cores in use from which one process waits for another
NOTABLE = 0.1  # share of the cores' time that is worth a line


@dataclass(frozen=True)
class CpuTimes:
    """The kernel's counters at one time, in seconds of one core.

    Attributes:
        at_s: CLOCK_MONOTONIC.
        cores: those this process may use.
        busy_s: in which these cores ran anything.
        steal_s: in which they wanted to run, and the host ran another machine.
        own_s: that the watched processes used; of all cores.
        periods: of this control group's CPU quota.
        throttled: periods in which the quota was used up.
    """

    at_s: float
    cores: int
    busy_s: float
    steal_s: float
    own_s: float
    periods: int
    throttled: int


@dataclass(frozen=True)
class OtherWork:
    """What else the machine did between two snapshots.

    Attributes:
        seconds: between them.
        cores: that this process may use.
        other_cores: how many of them others used, on average.
        busy: share of the cores in use by anybody.
        steal: share of the cores' time that the host took.
        throttled: share of the quota's periods in which it was used up.
    """

    seconds: float
    cores: int
    other_cores: float
    busy: float
    steal: float
    throttled: float

    def facts(self) -> list[str]:
        """What slowed a run down, a clause each; none if it had the cores to itself."""
        found: list[str] = []
        if self.other_cores >= NOTABLE * self.cores and self.busy + self.steal >= SATURATED:
            found.append(f"other processes used {self.other_cores:.1f} of {self.cores} cores")
        if self.steal >= NOTABLE:
            found.append(f"the host gave {self.steal:.0%} of the cores' time to others (steal)")
        if self.throttled >= NOTABLE:
            found.append(f"a CPU quota ran out in {self.throttled:.0%} of its periods")
        return found


def cpu_times(pids: tuple[int, ...] = ()) -> CpuTimes | None:
    """Read the counters; takes less than a millisecond.

    Args:
        pids: the watched processes; this one if there are none. Their descendants belong to them.

    Returns:
        None where the kernel does not give them, as on macOS.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = os.sched_getaffinity(0)
    try:
        lines = (_PROC / "stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    ticks = [
        [int(word) for word in line.split()[1:]]
        for line in lines
        if line.startswith("cpu") and line[3:4].isdigit() and int(line[3:].split()[0]) in cores
    ]
    # user nice system idle iowait irq softirq steal; guests are counted in user already
    busy = sum(sum(one[:3]) + sum(one[5:7]) for one in ticks)
    steal = sum(one[7] for one in ticks if len(one) > 7)
    return CpuTimes(
        time.monotonic(),
        len(ticks),
        busy / _TICKS,
        steal / _TICKS,
        sum(map(_used_s, pids or (os.getpid(),))),
        *_quota_periods(),
    )


def other_work(before: CpuTimes | None, after: CpuTimes | None) -> OtherWork | None:
    """What lies between two snapshots; None where there are none."""
    if before is None or after is None or not before.cores or after.at_s <= before.at_s:
        return None
    seconds, cores = after.at_s - before.at_s, after.cores
    all_s = seconds * cores
    busy_s, own_s = after.busy_s - before.busy_s, after.own_s - before.own_s
    return OtherWork(
        seconds=seconds,
        cores=cores,
        other_cores=max(0.0, busy_s - own_s) / seconds,
        busy=min(1.0, busy_s / all_s),
        steal=min(1.0, (after.steal_s - before.steal_s) / all_s),
        throttled=(after.throttled - before.throttled) / max(after.periods - before.periods, 1),
    )


def sample_other_work(pids: tuple[int, ...] = (), seconds: float = 0.2) -> OtherWork | None:
    """Watch the machine for a moment.

    Args:
        pids: the processes that do not count as others; this one if there are none.
        seconds: how long.
    """
    before = cpu_times(pids)
    if before is None:
        return None
    time.sleep(seconds)
    return other_work(before, cpu_times(pids))


def _used_s(pid: int) -> float:
    """CPU seconds of a process and its descendants, the ended ones too; 0 if it is gone."""
    process = _PROC / str(pid)
    try:
        words = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        children = [
            child for task in (process / "task").iterdir() for child in _words(task / "children")
        ]
    except OSError:
        return 0.0
    return sum(map(int, words[11:15])) / _TICKS + sum(_used_s(int(child)) for child in children)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:  # a thread that has ended, or a kernel without this file
        return []


def _quota_periods() -> tuple[int, int]:
    """Periods of the CPU quota of this control group, and in how many of them it was used up."""
    found = [(0, 0)]
    for folder in cgroup_folders():
        words = _words(folder / "cpu.stat")
        values = dict(zip(words[::2], words[1::2], strict=False))
        found.append((int(values.get("nr_periods", 0)), int(values.get("nr_throttled", 0))))
    return max(found, key=lambda pair: pair[1])
