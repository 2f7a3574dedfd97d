"""Machine watch: memory, swapping, disks, GPUs and other work, from two looks at the machine."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from headway.base.host.contention import cpu_times, other_work
from headway.base.machine import cgroup_folders, this_machine
from headway.diagnose.evidence.facts import DiskFacts, GpuFacts, MachineFacts
from headway.diagnose.evidence.gpus import read_gpus
from headway.diagnose.evidence.kernel.proc_files import PROC, text_of, whole
from headway.diagnose.evidence.kernel.used_folders import plain
from headway.diagnose.evidence.side_jobs import SideJobs

_GPUS = "gpus"
Reading = tuple[GpuFacts, ...] | DiskFacts


class MachineWatch:
    """A look at the machine now; `facts` takes the second one.

    Args:
        pids: the job's processes that are no descendant of another one: theirs is no other work.
        folders: that matter to the job.
        seconds: how long a disk and a driver may take to answer.
        proc: the kernel's folder.
    """

    def __init__(
        self, pids: Sequence[int], folders: Sequence[Path], seconds: float, proc: Path = PROC
    ) -> None:
        self._pids, self._proc = tuple(pids), proc
        calls: dict[str, Callable[[], Reading]] = {_GPUS: lambda: read_gpus(seconds)}
        for folder in folders:
            calls[str(folder)] = lambda folder=folder: _disk(folder)
        self._side_jobs = SideJobs(calls)
        self._began_s = time.monotonic()
        self._swaps = _swaps(proc)
        self._cpu = cpu_times(self._pids)

    def facts(self) -> MachineFacts:
        """The machine since this was made."""
        seconds = max(time.monotonic() - self._began_s, 1e-3)
        swaps = _swaps(self._proc)
        machine = this_machine()
        return MachineFacts(
            cores=machine.cores,
            memory_bytes=machine.memory_bytes,
            memory_free_bytes=machine.memory_free_bytes,
            swap_in_pages_per_s=(swaps[0] - self._swaps[0]) / seconds,
            swap_out_pages_per_s=(swaps[1] - self._swaps[1]) / seconds,
            memory_pressure=pressure("memory", self._proc),
            io_pressure=pressure("io", self._proc),
            other_work=other_work(self._cpu, cpu_times(self._pids)),
        )

    def disks_and_gpus(self, until_s: float) -> tuple[tuple[DiskFacts, ...], tuple[GpuFacts, ...]]:
        """Those that have answered by then (CLOCK_MONOTONIC)."""
        found = self._side_jobs.results(until_s)
        disks = tuple(one for one in found.values() if isinstance(one, DiskFacts))
        gpus = [one for one in found.values() if isinstance(one, tuple)]
        return disks, gpus[0] if gpus else ()


def pressure(what: str, proc: Path = PROC) -> float:
    """The share of the last 10 s in which tasks waited for it, on the machine or in our group.

    Args:
        what: "memory" or "io".
        proc: the kernel's folder.
    """
    files = [proc / "pressure" / what]
    files += [folder / f"{what}.pressure" for folder in cgroup_folders()]
    return max(_some(text_of(file)) for file in files)


def _some(text: str) -> float:
    """From "some avg10=1.53 avg60=0.87 ...": 0.0153."""
    for line in text.splitlines():
        kind, _, values = line.partition(" ")
        average = values.partition("avg10=")[2].split(" ")[0]
        if kind == "some" and average.replace(".", "", 1).isdecimal():
            return float(average) / 100
    return 0.0


def _swaps(proc: Path) -> tuple[int, int]:
    """Pages moved from and to the swap area so far."""
    pairs = (line.partition(" ") for line in text_of(proc / "vmstat").splitlines())
    counters = {name: value for name, _, value in pairs}
    return whole(counters.get("pswpin", "")), whole(counters.get("pswpout", ""))


def _disk(folder: Path) -> DiskFacts:
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, "nothing is written there")  # it may well be full
    found = shutil.disk_usage(nearest)
    return DiskFacts(str(plain(folder)), found.free, found.total)
