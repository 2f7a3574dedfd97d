"""Facts for doctor: versions, devices, limits, disks."""

import contextlib
import importlib.metadata
import os
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from headway.base.disk import check_writable
from headway.base.errors import MachineError
from headway.base.files import cache_folder
from headway.base.host.contention import OtherWork, sample_other_work
from headway.base.host.packages import TRAIN, nvidia_device
from headway.base.machine import Machine, TorchBuild, compiler, this_machine, torch_build
from headway.diagnose.evidence.stacks.py_spy import py_spy
from headway.diagnose.evidence.stacks.trace_permission import ptrace_scope
from headway.supervise.allocator import Allocator, choose_allocator


@dataclass(frozen=True)
class FolderFacts:
    """A folder that Headway writes to."""

    path: str
    free_bytes: int
    total_bytes: int
    problem: str = ""  # why it cannot be written to


@dataclass(frozen=True)
class Probe:
    """Facts about this machine, without a verdict."""

    python: tuple[int, int, int]
    machine: Machine
    cpu_count: int  # without affinity and quota
    packages: dict[str, str]  # installed version by name, of those in TRAIN
    torch: TorchBuild | None
    nvidia: str  # how a device was found: "/dev/nvidia0", "nvidia-smi"; "" for none
    omp_num_threads: int | None
    limits: dict[str, int]  # of this process, where there are any: bytes, files
    shared_memory: FolderFacts | None
    runs: FolderFacts
    cache: FolderFacts
    cache_bytes: int
    py_spy: bool
    ptrace_scope: int = 0  # from 1 on, only root may read the stack of what it did not start
    other_work: OtherWork | None = None  # None where it cannot be read
    allocator: Allocator = Allocator.SYSTEM
    compiler: str = ""  # C++, "" for none


def read_machine(output_dir: Path = Path("runs")) -> Probe:
    """Read this machine; takes 0.2 s, to see what it does, more if the cache holds many files."""
    shared_memory, cache = Path("/dev/shm"), cache_folder()  # noqa: S108 - Linux's shared memory
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return Probe(
        python=sys.version_info[:3],
        machine=this_machine(),
        cpu_count=os.cpu_count() or 1,
        packages=_installed(),
        torch=torch_build(),
        nvidia=nvidia_device(),
        omp_num_threads=int(threads) if threads.isdecimal() else None,
        limits=_limits(),
        shared_memory=_place(shared_memory) if shared_memory.is_dir() else None,
        runs=_place(output_dir),
        cache=_place(cache),
        cache_bytes=_bytes_in(cache),
        other_work=sample_other_work(),
        allocator=choose_allocator(),
        compiler=compiler(),
        py_spy=bool(py_spy()),
        ptrace_scope=0 if os.geteuid() == 0 else ptrace_scope(),
    )


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in TRAIN:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _limits() -> dict[str, int]:
    kinds = {
        "address space": resource.RLIMIT_AS,
        "file size": resource.RLIMIT_FSIZE,
        "open files": resource.RLIMIT_NOFILE,
        "processes": resource.RLIMIT_NPROC,
    }
    now = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {name: value for name, value in now.items() if value != resource.RLIM_INFINITY}


def _place(folder: Path) -> FolderFacts:
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    disk = shutil.disk_usage(nearest)
    try:
        check_writable(folder.absolute())
    except MachineError as error:
        return FolderFacts(str(folder), disk.free, disk.total, error.have)
    return FolderFacts(str(folder), disk.free, disk.total)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            total += path.lstat().st_size if path.is_file() else 0
    return total
