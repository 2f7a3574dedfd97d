"""Devices, memory, cores and quotas, disk, cached measurements."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from headway.base.files import cache_folder, write_whole

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_UNLIMITED = 2**62  # version 1 says so with a huge number
FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16", "svebf16", "bf16"})


@dataclass(frozen=True)
class Machine:
    """What this process may use. Bytes, whole cores."""

    cores: int  # by affinity and quota
    memory_bytes: int  # by limit where there is one
    memory_free_bytes: int
    cpu: str
    system: str
    cpu_flags: frozenset[str] = frozenset()  # what the processor can do; empty: it does not say

    @property
    def fast_in_bf16(self) -> bool:
        """Whether its processor has products of bf16 numbers."""
        return bool(self.cpu_flags & FAST_BF16)


def this_machine() -> Machine:
    """Read the machine as it is now; some milliseconds."""
    total, available = _memory()
    for limit, used in _memory_limits(_cgroups()):
        total, available = min(total, limit), min(available, limit - used)
    return Machine(
        cores=_cores(),
        memory_bytes=total,
        memory_free_bytes=max(available, 0),
        cpu=_cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
        cpu_flags=cpu_flags(_text(Path("/proc/cpuinfo"))),
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The first processor's feature flags from the text of /proc/cpuinfo (x86 and ARM)."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _cores() -> int:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quotas = [max(1, int(quota)) for quota in _core_quotas(_cgroups())]
    return min([cores, *quotas])


# Control groups limit a process by its own group and by every group above it. Version 2 has one
# tree; version 1 one tree per controller, with other names for the same files.


def _cgroups() -> list[Path]:
    """The folders of this process's control groups, all trees, and of those above them."""
    folders: dict[Path, None] = {}
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        own = PurePosixPath("/", path)
        for part in (own, *own.parents):
            folders[Path(_CGROUP, controllers, str(part).lstrip("/"))] = None
    return list(folders)


def _memory_limits(folders: list[Path]) -> Iterator[tuple[int, int]]:
    """Of each group that has a limit: the limit, and the bytes used that cannot be given back."""
    for folder in folders:
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and limit < _UNLIMITED:
                yield limit, (used or 0) - _file_cache(folder)


def _file_cache(folder: Path) -> int:
    """Bytes that the group is charged for but that the kernel frees when they are wanted."""
    # Version 1 gives the group's own bytes first, then (total_) those of the groups below too.
    found = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(folder / "memory.stat"), re.M)
    return int(found[-1]) if found else 0


def _core_quotas(folders: list[Path]) -> Iterator[float]:
    """Of each group that has a quota: the cores it amounts to."""
    for folder in folders:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        words = _text(folder / "cpu.max").split()
        if len(words) == 2:
            quota, period = _whole(words[0]), _whole(words[1])
        if quota and period and quota > 0:
            yield quota / period


def _memory() -> tuple[int, int]:
    """Total and available bytes."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        numbers = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return numbers["MemTotal"], numbers["MemAvailable"]
    except (OSError, KeyError, IndexError, ValueError):
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available


def _number(path: Path) -> int | None:
    return _whole(_text(path))


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # "max", or nothing
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def measured(what: str) -> float | None:
    """A number this machine measured before (tokens per second, bytes, ...), if it did.

    Args:
        what: everything the number depends on, as one text (model shape, threads, build, ...).
    """
    try:
        return msgspec.json.decode(_measurement(what).read_bytes(), type=float)
    except (OSError, msgspec.DecodeError):
        return None


def remember(what: str, value: float) -> None:
    """Keep a measurement for later plans. A cache that cannot be written is no reason to fail."""
    path = _measurement(what)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(value))
    except Exception:  # noqa: S110 - the next plan says "unmeasured", that is all
        pass


def _measurement(what: str) -> Path:
    key = hashlib.sha256(f"{platform.node()}|{_cpu_name()}|{what}".encode()).hexdigest()[:24]
    return cache_folder("measured", f"{key}.json")


@dataclass(frozen=True)
class TorchBuild:
    """Which torch is installed, told without importing it."""

    version: str  # "2.13.0+cpu"
    cuda: str  # "13.0", "" for a CPU build


def torch_build() -> TorchBuild | None:
    """The installed torch; None when there is none."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):  # something on the way bars or breaks it
        spec = None
    if spec is None or not spec.origin:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    version = re.search(r"^__version__[^=]*= ['\"]([^'\"]+)", text, re.MULTILINE)
    cuda = re.search(r"^cuda[^=]*= ['\"]([^'\"]+)", text, re.MULTILINE)
    return TorchBuild(version[1] if version else "unknown", cuda[1] if cuda else "")


def compiler() -> str:
    """The C++ compiler that torch finds here with Python's headers beside it; "" for none."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    found = (name for name in names if shutil.which(name))
    return next(found, "") if headers.exists() else ""


def accelerator() -> str:
    """The kind of accelerator this machine has: cuda, mps, or "" for none."""
    if Path("/dev/nvidia0").exists():
        return "cuda"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return ""
