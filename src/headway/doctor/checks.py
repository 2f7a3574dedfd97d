"""Machine checks: packages, devices, threads, memory, disk.

`facts.read_machine` reads the machine, `examine` judges it, `lines` and `as_json` format the
result. Nothing here imports torch: its build is read from its installed files.
"""

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

import msgspec

from headway.base.errors import Exit, Remedy
from headway.base.host.contention import NOTABLE
from headway.base.host.packages import CPU_INDEX, TRAIN, training_remedies
from headway.base.machine import FAST_BF16
from headway.base.units import count, plural, size
from headway.base.version import __version__
from headway.doctor.facts import Probe
from headway.supervise.allocator import Allocator

OLDEST_PYTHON = (3, 11)
LITTLE_MEMORY, NO_MEMORY = 4 * 10**9, 10**9  # torch and a tiny model need about 1 GB
LITTLE_DISK, NO_DISK = 2 * 10**9, 10**8  # a few checkpoints of a small model; one of a tiny one
LITTLE_SHARED_MEMORY = 128 * 2**20  # containers get 64 MiB unless they ask
FEW_OPEN_FILES = 256
FEW_PROCESSES = 128  # of a user: a run starts some 20, threads included
_BUSY = 0.25  # share of the cores
_INSTALL_TORCH = "pip install --force-reinstall torch"

Verdict = Literal["ok", "warning", "bad"]


@dataclass(frozen=True)
class Check:
    """One check: what was found, and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: tuple[Remedy, ...] = ()

    def __post_init__(self) -> None:
        assert self.verdict != "ok" or not self.advice, "what is well needs no advice"


def examine(probe: Probe) -> list[Check]:
    """Check what was read."""
    return [
        _python(probe),
        _packages(probe),
        _torch(probe),
        _device(probe),
        _cores(probe),
        _load(probe),
        _bf16(probe),
        _memory(probe),
        _allocator(probe),
        _compiler(probe),
        _limits_check(probe),
        _shared_memory(probe),
        _runs(probe),
        _cache(probe),
        _py_spy(probe),
    ]


def exit_code(checks: list[Check]) -> Exit:
    """5 when something prevents training, else 0."""
    return Exit.MACHINE if any(check.verdict == "bad" for check in checks) else Exit.KEPT


def lines(checks: list[Check], width: int = 80) -> list[str]:
    """The result for people, in `width` columns; only a line to type may be longer.

    Under 60 columns the finding goes below the name instead of next to it.
    """
    text: list[str] = []
    for check in checks:
        head, indent = f"{check.verdict:9}{check.name:15}", 24
        if width < 60:
            text.append(f"{check.verdict:9}{check.name}")
            head, indent = "  ", 2
        text += textwrap.wrap(
            check.found,
            width,
            initial_indent=head,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        for remedy in check.advice:
            text.append(f"{' ' * indent}try  {remedy.do}")
            text += [
                f"{' ' * (indent + 5)}{part}"
                for part in textwrap.wrap(remedy.gives, width - indent - 5)
            ]
    return [*text, "", *textwrap.wrap(_summary(checks), width)]


def as_json(checks: list[Check]) -> bytes:
    """The result for programs: whether the machine is ready, and every check."""
    fit = exit_code(checks) is Exit.KEPT
    return msgspec.json.encode({"fit": fit, "checks": checks})


def _summary(checks: list[Check]) -> str:
    bad = [check.name for check in checks if check.verdict == "bad"]
    warnings = [check.name for check in checks if check.verdict == "warning"]
    if bad:
        return f"not ready to train: {', '.join(bad)}"
    if warnings:
        return f"ready to train; to improve: {', '.join(warnings)}"
    return "ready to train"


# The checks, in the order they are printed.


def _python(probe: Probe) -> Check:
    version = ".".join(str(part) for part in probe.python)
    found = f"{version} on {probe.machine.system}, Headway {__version__}"
    if probe.python[:2] < OLDEST_PYTHON:
        newer = Remedy("python3.11 -m venv .venv", "Headway needs Python 3.11 or newer")
        return Check("python", "bad", found, (newer,))
    return Check("python", "ok", found)


def _packages(probe: Probe) -> Check:
    wanted = {name: probe.packages.get(name) for name in TRAIN}
    missing = [name for name, version in wanted.items() if version is None]
    old = [
        f"{name} {version} (needs {TRAIN[name]})"
        for name, version in wanted.items()
        if version is not None and _numbers(version) < _numbers(TRAIN[name])
    ]
    if missing or old:
        parts = [f"missing: {', '.join(missing)}"] * bool(missing)
        parts += [f"too old: {', '.join(old)}"] * bool(old)
        install = training_remedies(probe.nvidia, probe.machine.system, torch="torch" in missing)
        return Check("packages", "bad", "; ".join(parts), install)
    versions = ", ".join(f"{name} {version}" for name, version in wanted.items())
    return Check("packages", "ok", versions)


def _torch(probe: Probe) -> Check:
    """Which build is installed, and how to get the one that fits this machine."""
    build = probe.torch
    if build is None:
        return Check("torch build", "ok", "none installed")
    if build.cuda:
        found = f"{build.version}, for CUDA {build.cuda}"
        if probe.nvidia or not probe.machine.system.startswith("Linux"):
            return Check("torch build", "ok", found)
        smaller = Remedy(
            f"pip uninstall -y torch && pip install torch --index-url {CPU_INDEX}",
            "the CPU build, some 6 GB smaller",
        )
        return Check("torch build", "warning", f"{found}; no NVIDIA device found", (smaller,))
    if "rocm" in build.version:
        return Check("torch build", "ok", f"{build.version}, for AMD devices")
    found = f"{build.version}, for the CPU"
    if probe.nvidia:
        found += f"; it cannot use the NVIDIA device ({probe.nvidia})"
        other = Remedy(_INSTALL_TORCH, "the CUDA build, the usual one on Linux")
        return Check("torch build", "warning", found, (other,))
    return Check("torch build", "ok", found)


def _device(probe: Probe) -> Check:
    if probe.nvidia:
        return Check("device", "ok", f"NVIDIA ({probe.nvidia})")
    if probe.machine.system == "Darwin arm64":
        return Check("device", "ok", "Apple GPU (mps)")
    return Check("device", "ok", "CPU only")


def _cores(probe: Probe) -> Check:
    cores = probe.machine.cores
    found = f"{plural(cores, 'core')}, {probe.machine.cpu}"
    if cores < probe.cpu_count:
        found = f"{cores} of {plural(probe.cpu_count, 'core')} (affinity, quota)"
        found += f", {probe.machine.cpu}"
    threads = probe.omp_num_threads
    if threads is not None and threads < cores:
        found += f"; OMP_NUM_THREADS is {threads}"
        use_all = Remedy(f"--threads {cores}", "or unset OMP_NUM_THREADS")
        return Check("cores", "warning", found, (use_all,))
    return Check("cores", "ok", found)


def _load(probe: Probe) -> Check:
    """What else the cores do; a run would share them."""
    other = probe.other_work
    if other is None:
        return Check("load", "ok", "unknown on this system")
    parts = [f"{other.other_cores:.1f} of {plural(other.cores, 'core')} in use by other processes"]
    parts += [f"{other.steal:.0%} taken by the host (steal)"] if other.steal >= NOTABLE else []
    parts += [f"CPU quota used up ({other.throttled:.0%})"] if other.throttled >= NOTABLE else []
    if len(parts) == 1 and other.other_cores < _BUSY * other.cores:
        return Check("load", "ok", parts[0])
    most = Remedy("ps -eo pid,pcpu,etime,args --sort=-pcpu | head", "what uses them most")
    return Check("load", "warning", f"{', '.join(parts)}: steps will take longer", (most,))


def _bf16(probe: Probe) -> Check:
    fast = sorted(FAST_BF16 & probe.machine.cpu_flags)
    if fast:
        return Check("bfloat16", "ok", f"fast on this CPU ({', '.join(fast)})")
    if not probe.machine.cpu_flags:
        return Check("bfloat16", "ok", "unknown on this system; the first run measures it")
    return Check("bfloat16", "ok", "slow on this CPU, so fp32 is the default")


def _memory(probe: Probe) -> Check:
    free, total = probe.machine.memory_free_bytes, probe.machine.memory_bytes
    found = f"{size(free)} free of {size(total)}"
    if free >= LITTLE_MEMORY:
        return Check("memory", "ok", found)
    if free >= NO_MEMORY:
        smallest = Remedy("--preset tiny", "the smallest model from scratch")
        return Check("memory", "warning", found, (smallest,))
    close = Remedy("close other programs", f"loading torch and training takes {size(NO_MEMORY)}")
    return Check("memory", "bad", found, (close,))


def _allocator(probe: Probe) -> Check:
    better = Remedy("apt-get install libtcmalloc-minimal4", "a faster one; Fedora: gperftools-libs")
    if probe.allocator is Allocator.GLIBC:
        return Check("allocator", "warning", probe.allocator.value, (better,))
    return Check("allocator", "ok", probe.allocator.value)


def _compiler(probe: Probe) -> Check:
    if probe.compiler:
        return Check("compiler", "ok", f"{probe.compiler}, for runs long enough to benefit")
    install = Remedy(
        "apt-get install g++ python3-dev",
        "to compile long runs; Fedora: gcc-c++ python3-devel",
    )
    return Check("compiler", "warning", "no C++ compiler, or no Python headers", (install,))


def _limits_check(probe: Probe) -> Check:
    files = probe.limits.get("open files", FEW_OPEN_FILES)
    found = [
        f"{name} {count(value) if name in ('open files', 'processes') else size(value)}"
        for name, value in probe.limits.items()
    ]
    advice: list[Remedy] = []
    if files < FEW_OPEN_FILES:
        advice.append(Remedy("ulimit -n 1024", "allows more open files"))
    if probe.limits.get("processes", FEW_PROCESSES) < FEW_PROCESSES:
        advice.append(Remedy("ulimit -u 1024", "allows more processes and threads"))
    if "address space" in probe.limits:
        advice.append(Remedy("ulimit -v unlimited", "torch reserves far more than it uses"))
    if "file size" in probe.limits:
        advice.append(Remedy("ulimit -f unlimited", "a checkpoint is one large file"))
    return Check("limits", "warning" if advice else "ok", ", ".join(found) or "none", tuple(advice))


def _shared_memory(probe: Probe) -> Check:
    place = probe.shared_memory
    if place is None:
        return Check("shared memory", "ok", "no /dev/shm; the temporary folder is used instead")
    found = f"{size(place.free_bytes)} free of {size(place.total_bytes)} in {place.path}"
    mount = Remedy("docker run --shm-size 1g ...", "in a container")
    if place.problem:
        found = f"cannot write to {place.path}: {place.problem}; the temporary folder is used"
        return Check("shared memory", "warning", found, (mount,))
    if place.free_bytes < LITTLE_SHARED_MEMORY:
        return Check("shared memory", "warning", found, (mount,))
    return Check("shared memory", "ok", found)


def _runs(probe: Probe) -> Check:
    place = probe.runs
    found = f"{size(place.free_bytes)} free for {place.path}"
    elsewhere = Remedy("--output-dir DIR", "a folder on another disk")
    if place.problem:
        found = f"cannot write to {place.path}: {place.problem}"
        return Check("disk", "bad", found, (elsewhere,))
    if place.free_bytes >= LITTLE_DISK:
        return Check("disk", "ok", found)
    verdict = "warning" if place.free_bytes >= NO_DISK else "bad"
    return Check("disk", verdict, found, (elsewhere, Remedy("--save-total-limit 1")))


def _cache(probe: Probe) -> Check:
    place = probe.cache
    found = f"{size(probe.cache_bytes)} in {place.path}, {size(place.free_bytes)} free"
    elsewhere = Remedy("export XDG_CACHE_HOME=DIR", "a folder on another disk")
    if place.problem:
        found = f"cannot write to {place.path}: {place.problem}; nothing is cached"
        return Check("cache", "warning", found, (elsewhere,))
    if place.free_bytes < NO_DISK:
        return Check("cache", "warning", found, (elsewhere,))
    return Check("cache", "ok", found)


def _py_spy(probe: Probe) -> Check:
    if not probe.py_spy:
        install = Remedy("pip install py-spy", "shows in which call a process is stuck")
        return Check("py-spy", "warning", "not installed; stalls have no stacks", (install,))
    if probe.ptrace_scope:
        scope = f"kernel.yama.ptrace_scope is {probe.ptrace_scope}"
        return Check(
            "py-spy", "ok", f"installed; stacks of other programs need sudo, since {scope}"
        )
    return Check("py-spy", "ok", "installed: `headway diagnose` shows every stack")


def _numbers(version: str) -> tuple[int, ...]:
    """The release part as numbers: '2.13.0+cpu' -> (2, 13, 0)."""
    release = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in re.findall(r"\d+", release[0] if release else ""))
