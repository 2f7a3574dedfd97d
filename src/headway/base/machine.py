"""Machine facts: memory, cores and their limits, accelerator, torch build, cached measurements."""

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
_CPUINFO = Path("/proc/cpuinfo")
_UNLIMITED = 2**62  # version 1 has no word for it and gives a huge number
FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16", "svebf16", "bf16"})


@dataclass(frozen=True)
class Machine:
    """What this process may use: limits included, whole cores."""

    cores: int  # after affinity and quota
    memory_bytes: int  # total, or the limit if lower
    memory_free_bytes: int
    cpu: str
    system: str
    cpu_flags: frozenset[str] = frozenset()  # empty if unknown

    @property
    def fast_in_bf16(self) -> bool:
        """Whether the processor multiplies bf16 numbers in hardware."""
        return bool(self.cpu_flags & FAST_BF16)


def this_machine() -> Machine:
    """Read the current state; takes some milliseconds."""
    total, available = _total_and_available_bytes()
    for limit, used in _memory_limits(cgroup_folders()):
        total, available = min(total, limit), min(available, limit - used)
    return Machine(
        cores=_cores(),
        memory_bytes=total,
        memory_free_bytes=max(available, 0),
        cpu=_cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
        cpu_flags=cpu_flags(_text(_CPUINFO)),
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The first processor's feature flags in /proc/cpuinfo (x86 and ARM)."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _cores() -> int:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quotas = [max(1, int(quota)) for quota in _core_quotas(cgroup_folders())]
    return min([cores, *quotas])


# A process is limited by its own control group and by every group above it. Version 2 has one
# tree, version 1 a tree per controller with different file names. psutil reads neither.


def cgroup_folders() -> list[Path]:
    """The folders of this process's control groups and their ancestors, in all trees."""
    folders: dict[Path, None] = {}
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        own = PurePosixPath("/", path)
        for part in (own, *own.parents):
            folders[Path(_CGROUP, controllers, str(part).lstrip("/"))] = None
    return list(folders)


def _memory_limits(folders: list[Path]) -> Iterator[tuple[int, int]]:
    """Limit and used bytes, without reclaimable file cache, of each limited group."""
    for folder in folders:
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and limit < _UNLIMITED:
                yield limit, (used or 0) - _file_cache(folder)


def _file_cache(folder: Path) -> int:
    """Bytes charged to the group that the kernel frees on demand."""
    # Version 1 lists the group's own bytes first, then total_: with the groups below it.
    found = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(folder / "memory.stat"), re.M)
    return int(found[-1]) if found else 0


def _core_quotas(folders: list[Path]) -> Iterator[float]:
    """The quota of each limited group, in cores."""
    for folder in folders:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        words = _text(folder / "cpu.max").split()
        if len(words) == 2:
            quota, period = _whole(words[0]), _whole(words[1])
        if quota and period and quota > 0:
            yield quota / period


def _total_and_available_bytes() -> tuple[int, int]:
    import psutil  # here, not at the top: it would delay the first line of every command

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
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _cpu_name() -> str:
    found = re.search(r"^model name\s*:(.*)$", _text(_CPUINFO), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def measured(what: str) -> float | None:
    """A number this machine has measured (tokens per second, bytes, ...), or None.

    Args:
        what: everything the number depends on, in one text (model shape, threads, build, ...).
    """
    try:
        return msgspec.json.decode(_measurement(what).read_bytes(), type=float)
    except (OSError, msgspec.DecodeError):
        return None


def remember(what: str, value: float) -> None:
    """Cache a measurement for later plans; a cache that cannot be written is ignored."""
    path = _measurement(what)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(value))
    except Exception:  # noqa: S110 - the next plan says "not measured yet"
        pass


def _measurement(what: str) -> Path:
    key = hashlib.sha256(f"{platform.node()}|{_cpu_name()}|{what}".encode()).hexdigest()[:24]
    return cache_folder("measured", f"{key}.json")


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch, found without importing it."""

    version: str  # "2.13.0+cpu"
    cuda: str  # "13.0", "" for a CPU build


def torch_build() -> TorchBuild | None:
    """The installed torch, or None."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):  # an import hook or a broken package
        spec = None
    if spec is None or not spec.origin:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^__version__[^=]*= ['\"]([^'\"]+)", text, re.MULTILINE)
    cuda = re.search(r"^cuda[^=]*= ['\"]([^'\"]+)", text, re.MULTILINE)
    return TorchBuild(version[1] if version else "unknown", cuda[1] if cuda else "")


def compiler() -> str:
    """The C++ compiler that torch would use, "" without one or without Python's headers."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    found = (name for name in names if shutil.which(name))
    return next(found, "") if headers.exists() else ""


def accelerator() -> str:
    """The accelerator of this machine: cuda, mps, or "" for none."""
    if Path("/dev/nvidia0").exists():
        return "cuda"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return ""
