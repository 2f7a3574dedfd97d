"""Checks of a machine: exact words for exact facts."""

import json
from dataclasses import replace

import pytest

import headway
from headway.base.errors import Exit, Remedy
from headway.base.host.contention import OtherWork
from headway.base.host.packages import CPU_INDEX, TRAIN
from headway.base.machine import Machine, TorchBuild
from headway.doctor.checks import Check, as_json, examine, exit_code, lines
from headway.doctor.facts import FolderFacts, Probe
from headway.supervise.allocator import Allocator

GB, MIB = 10**9, 2**20
SHARED = FolderFacts("/dev/shm", 32 * GB, 32 * GB)
FLAGS = frozenset({"fma", "avx512_bf16", "amx_bf16"})
HEALTHY = Probe(
    python=(3, 12, 1),
    machine=Machine(8, 64 * GB, 48 * GB, "Xeon", "Linux x86_64", FLAGS),
    cpu_count=8,
    packages=dict.fromkeys(TRAIN, "99.0"),
    torch=TorchBuild("2.13.0+cpu", ""),
    nvidia="",
    omp_num_threads=None,
    limits={"open files": 20_000},
    shared_memory=SHARED,
    runs=FolderFacts("runs", 500 * GB, 900 * GB),
    cache=FolderFacts("/home/me/.cache/headway", 500 * GB, 900 * GB),
    cache_bytes=3_200_000,
    py_spy=True,
    allocator=Allocator.TCMALLOC,
    compiler="g++",
)


IDLE = OtherWork(0.2, 8, other_cores=0.2, busy=0.03, steal=0.0, throttled=0.0)
ALL = "pip install 'headway[train]'"


def check(name: str, **changes: object) -> Check:
    checks = {c.name: c for c in examine(replace(HEALTHY, **changes))}
    return checks[name]


def tries(found: Check) -> list[str]:
    return [remedy.do for remedy in found.advice]


def test_a_healthy_machine_has_nothing_to_mend() -> None:
    checks = examine(HEALTHY)
    assert [c.name for c in checks if c.verdict != "ok"] == []
    assert [c.name for c in checks if c.advice] == []
    assert exit_code(checks) is Exit.KEPT
    assert lines(checks)[-1] == "ready to train"


@pytest.mark.parametrize(
    ("name", "changes", "verdict", "found", "remedies"),
    [
        (
            "python",
            {"python": (3, 10, 2)},
            "bad",
            f"3.10.2 on Linux x86_64, Headway {headway.__version__}",
            ["python3.11 -m venv .venv"],
        ),
        (
            "packages",
            {"packages": {}},
            "bad",
            "missing: httpx2, huggingface-hub, jinja2, numpy, peft, safetensors, tokenizers, "
            "torch, transformers, zstandard",
            [ALL, f"pip install torch --index-url {CPU_INDEX} && {ALL}"],
        ),
        (
            "packages",
            {"packages": {**HEALTHY.packages, "torch": "2.9.1+cu128", "peft": "0.19"}},
            "bad",
            "too old: torch 2.9.1+cu128 (needs 2.11)",
            [ALL],
        ),
        (
            "packages",
            {"packages": {}, "nvidia": "/dev/nvidia0"},
            "bad",
            "missing: httpx2, huggingface-hub, jinja2, numpy, peft, safetensors, tokenizers, "
            "torch, transformers, zstandard",
            [ALL],
        ),
        ("torch build", {}, "ok", "2.13.0+cpu, for the CPU", []),
        (
            "torch build",
            {"nvidia": "/dev/nvidia0"},
            "warning",
            "2.13.0+cpu, for the CPU; it cannot use the NVIDIA device (/dev/nvidia0)",
            ["pip install --force-reinstall torch"],
        ),
        (
            "torch build",
            {"torch": TorchBuild("2.13.0", "13.0"), "nvidia": "nvidia-smi"},
            "ok",
            "2.13.0, for CUDA 13.0",
            [],
        ),
        (
            "torch build",
            {"torch": TorchBuild("2.13.0", "13.0")},
            "warning",
            "2.13.0, for CUDA 13.0; no NVIDIA device found",
            [f"pip uninstall -y torch && pip install torch --index-url {CPU_INDEX}"],
        ),
        (
            "torch build",
            {"torch": TorchBuild("2.13.0+rocm7.0", "")},
            "ok",
            "2.13.0+rocm7.0, for AMD devices",
            [],
        ),
        ("torch build", {"torch": None}, "ok", "none installed", []),
        ("device", {}, "ok", "CPU only", []),
        ("device", {"nvidia": "/dev/nvidia0"}, "ok", "NVIDIA (/dev/nvidia0)", []),
        ("cores", {}, "ok", "8 cores, Xeon", []),
        ("load", {}, "ok", "unknown on this system", []),
        ("load", {"other_work": IDLE}, "ok", "0.2 of 8 cores in use by other processes", []),
        (
            "load",
            {"other_work": replace(IDLE, other_cores=7.5)},
            "warning",
            "7.5 of 8 cores in use by other processes: steps will take longer",
            ["ps -eo pid,pcpu,etime,args --sort=-pcpu | head"],
        ),
        (
            "load",
            {"other_work": replace(IDLE, steal=0.3, throttled=0.5)},
            "warning",
            "0.2 of 8 cores in use by other processes, 30% taken by the host (steal), "
            "CPU quota used up (50%): steps will take longer",
            ["ps -eo pid,pcpu,etime,args --sort=-pcpu | head"],
        ),
        ("cores", {"cpu_count": 64}, "ok", "8 of 64 cores (affinity, quota), Xeon", []),
        (
            "cores",
            {"omp_num_threads": 1},
            "warning",
            "8 cores, Xeon; OMP_NUM_THREADS is 1",
            ["--threads 8"],
        ),
        ("bfloat16", {}, "ok", "fast on this CPU (amx_bf16, avx512_bf16)", []),
        (
            "bfloat16",
            {"machine": replace(HEALTHY.machine, cpu_flags=frozenset({"fma"}))},
            "ok",
            "slow on this CPU, so fp32 is the default",
            [],
        ),
        ("allocator", {}, "ok", "tcmalloc", []),
        (
            "allocator",
            {"allocator": Allocator.GLIBC},
            "warning",
            "glibc, tuned to keep freed memory",
            ["apt-get install libtcmalloc-minimal4"],
        ),
        ("allocator", {"allocator": Allocator.PRELOADED}, "ok", "yours (LD_PRELOAD)", []),
        (
            "compiler",
            {"compiler": ""},
            "warning",
            "no C++ compiler, or no Python headers",
            ["apt-get install g++ python3-dev"],
        ),
        ("limits", {"limits": {}}, "ok", "none", []),
        ("limits", {}, "ok", "open files 20,000", []),
        ("limits", {"limits": {"open files": 64}}, "warning", "open files 64", ["ulimit -n 1024"]),
        ("limits", {"limits": {"processes": 40}}, "warning", "processes 40", ["ulimit -u 1024"]),
        (
            "limits",
            {"limits": {"address space": 4 * GB, "file size": GB}},
            "warning",
            "address space 4.0 GB, file size 1.0 GB",
            ["ulimit -v unlimited", "ulimit -f unlimited"],
        ),
        (
            "shared memory",
            {"shared_memory": None},
            "ok",
            "no /dev/shm; the temporary folder is used instead",
            [],
        ),
        (
            "disk",
            {"runs": FolderFacts("runs", GB, 900 * GB)},
            "warning",
            "1.0 GB free for runs",
            ["--output-dir DIR", "--save-total-limit 1"],
        ),
        (
            "disk",
            {"runs": FolderFacts("runs", 10**7, 900 * GB)},
            "bad",
            "10.0 MB free for runs",
            ["--output-dir DIR", "--save-total-limit 1"],
        ),
        (
            "disk",
            {"runs": FolderFacts("runs", GB, GB, "Read-only file system")},
            "bad",
            "cannot write to runs: Read-only file system",
            ["--output-dir DIR"],
        ),
        ("cache", {}, "ok", "3.2 MB in /home/me/.cache/headway, 500.0 GB free", []),
        (
            "cache",
            {"cache": FolderFacts("/c", GB, GB, "Permission denied")},
            "warning",
            "cannot write to /c: Permission denied; nothing is cached",
            ["export XDG_CACHE_HOME=DIR"],
        ),
        (
            "py-spy",
            {"py_spy": False},
            "warning",
            "not installed; stalls have no stacks",
            ["pip install py-spy"],
        ),
        (
            "py-spy",
            {"ptrace_scope": 1},
            "ok",
            "installed; stacks of other programs need sudo, since kernel.yama.ptrace_scope is 1",
            [],
        ),
    ],
)
def test_what_is_found_and_what_to_do(
    name: str, changes: dict[str, object], verdict: str, found: str, remedies: list[str]
) -> None:
    judged = check(name, **changes)
    assert (judged.verdict, judged.found) == (verdict, found)
    assert tries(judged) == remedies


def test_what_is_well_comes_without_advice() -> None:
    with pytest.raises(AssertionError):
        Check("disk", "ok", "plenty", (Remedy("buy another"),))


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (FolderFacts("/dev/shm", 64 * MIB, 64 * MIB), "67.1 MB free of 67.1 MB in /dev/shm"),
        (
            FolderFacts("/dev/shm", 0, 0, "Permission denied"),
            "cannot write to /dev/shm: Permission denied; the temporary folder is used",
        ),
    ],
)
def test_b08_shared_memory_too_small_or_closed_is_a_warning(place: FolderFacts, found: str) -> None:
    judged = check("shared memory", shared_memory=place)
    assert (judged.verdict, judged.found) == ("warning", found)
    assert tries(judged) == ["docker run --shm-size 1g ..."]


@pytest.mark.parametrize(
    ("free", "verdict"), [(48 * GB, "ok"), (2 * GB, "warning"), (GB // 2, "bad")]
)
def test_memory_is_judged_by_what_is_free(free: int, verdict: str) -> None:
    judged = check("memory", machine=replace(HEALTHY.machine, memory_free_bytes=free))
    assert judged.verdict == verdict
    assert bool(judged.advice) == (verdict != "ok")


# -- telling it


SICK = replace(
    HEALTHY,
    packages={"torch": "2.13.0+cpu"},
    nvidia="/dev/nvidia0",
    runs=FolderFacts("/very/long/path/of/a/cluster/to/my/own/training/runs", 10**7, GB),
    limits={"open files": 64},
)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("probe", [HEALTHY, SICK])
def test_every_line_fits_but_those_to_type(probe: Probe, width: int) -> None:
    told = lines(examine(probe), width)
    assert [line for line in told if len(line) > width and " try " not in line] == []


def test_a_check_at_80_columns() -> None:
    told = lines([check("packages", packages={"torch": "2.13.0"})], 80)
    assert told[:4] == [
        "bad      packages       missing: httpx2, huggingface-hub, jinja2, numpy, peft,",
        "                        safetensors, tokenizers, transformers, zstandard",
        "                        try  pip install 'headway[train]'",
        "                             installs what training needs",
    ]


def test_a_check_at_40_columns() -> None:
    told = lines([check("packages", packages={"torch": "2.13.0"})], 40)
    assert told[:6] == [
        "bad      packages",
        "  missing: httpx2, huggingface-hub,",
        "  jinja2, numpy, peft, safetensors,",
        "  tokenizers, transformers, zstandard",
        "  try  pip install 'headway[train]'",
        "       installs what training needs",
    ]


def test_the_last_line_sums_up() -> None:
    assert lines(examine(SICK))[-1] == "not ready to train: packages, disk"
    warned = examine(replace(HEALTHY, omp_num_threads=1))
    assert lines(warned)[-1] == "ready to train; to improve: cores"


def test_the_exit_code_is_5_only_when_something_is_bad() -> None:
    assert exit_code(examine(SICK)) == 5
    assert exit_code(examine(replace(HEALTHY, omp_num_threads=1))) == 0


def test_programs_get_the_same() -> None:
    told = json.loads(as_json(examine(SICK)))
    assert told["fit"] is False
    packages = next(c for c in told["checks"] if c["name"] == "packages")
    assert packages["verdict"] == "bad"
    assert packages["advice"][0]["do"] == "pip install 'headway[train]'"
