"""What this process may use: affinity, quotas and limits, not what is screwed in."""

import os
from pathlib import Path

import pytest

from headway.base import machine
from headway.base.machine import (
    accelerator,
    measured,
    remember,
    this_machine,
    torch_build,
)

GIB = 2**30


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores and 256 GiB, with control groups to be filled in."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    root.mkdir()
    own.write_text("0::/\n")
    monkeypatch.setattr(machine, "_CGROUP", root)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", own)
    monkeypatch.setattr(machine, "_total_and_available_bytes", lambda: (256 * GIB, 200 * GIB))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    return root


def write(folder: Path, **contents: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_without_limits_it_is_the_whole_machine(cgroup: Path) -> None:
    write(cgroup, memory__max="max", cpu__max="max 100000")
    found = this_machine()
    assert (found.cores, found.memory_bytes, found.memory_free_bytes) == (64, 256 * GIB, 200 * GIB)


def test_affinity_counts(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 7})
    assert this_machine().cores == 2


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_a_quota_counts_in_whole_cores(cgroup: Path, quota: str, cores: int) -> None:
    write(cgroup, cpu__max=quota)
    assert this_machine().cores == cores


def test_a_memory_limit_counts_less_what_is_used(cgroup: Path) -> None:
    write(cgroup, memory__max=8 * GIB, memory__current=3 * GIB)
    found = this_machine()
    assert (found.memory_bytes, found.memory_free_bytes) == (8 * GIB, 5 * GIB)


def test_cached_files_are_not_used_memory(cgroup: Path) -> None:
    write(
        cgroup,
        memory__max=8 * GIB,
        memory__current=7 * GIB,
        memory__stat=f"anon {GIB}\ninactive_file {6 * GIB}\nactive_file 0",
    )
    assert this_machine().memory_free_bytes == 7 * GIB


def test_more_used_than_allowed_is_nothing_free(cgroup: Path) -> None:
    write(cgroup, memory__max=GIB, memory__current=2 * GIB)
    assert this_machine().memory_free_bytes == 0


def test_the_limit_of_a_job_counts_where_the_root_has_none(cgroup: Path) -> None:
    """Slurm and systemd limit a group below the root, without a container."""
    (cgroup.parent / "own").write_text("0::/system.slice/job_7/task_0\n")
    write(cgroup / "system.slice" / "job_7", memory__max=16 * GIB, memory__current=0)
    write(cgroup / "system.slice" / "job_7" / "task_0", memory__max="max", cpu__max="200000 100000")
    found = this_machine()
    assert (found.cores, found.memory_bytes) == (2, 16 * GIB)


def test_version_1_groups_count(cgroup: Path) -> None:
    (cgroup.parent / "own").write_text("4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n")
    write(
        cgroup / "memory" / "docker" / "abc",
        memory__limit_in_bytes=4 * GIB,
        memory__usage_in_bytes=2 * GIB,
        memory__stat=f"inactive_file 0\ntotal_inactive_file {GIB}",
    )
    write(cgroup / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=0)
    write(
        cgroup / "cpu,cpuacct" / "docker" / "abc",
        cpu__cfs_quota_us=300000,
        cpu__cfs_period_us=100000,
    )
    write(cgroup / "cpu,cpuacct", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    found = this_machine()
    assert (found.cores, found.memory_bytes, found.memory_free_bytes) == (3, 4 * GIB, 3 * GIB)


@pytest.mark.parametrize("content", ["", "nonsense", "1 2 3"])
def test_unreadable_limits_are_no_limits(cgroup: Path, content: str) -> None:
    write(cgroup, memory__max=content, cpu__max=content)
    assert this_machine().cores == 64
    assert this_machine().memory_bytes == 256 * GIB


def test_a_system_without_control_groups_has_none(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_OWN_CGROUPS", cgroup / "gone")
    assert this_machine().cores == 64


def test_this_machine_makes_sense() -> None:
    found = this_machine()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 0 < found.memory_free_bytes <= found.memory_bytes
    assert found.cpu
    assert found.system


# -- measurements


def test_a_measurement_is_remembered_for_exactly_what_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("tokens/s, tiny, 2 threads", 4589.5)
    assert measured("tokens/s, tiny, 2 threads") == 4589.5
    assert measured("tokens/s, tiny, 4 threads") is None


def test_a_cache_that_cannot_be_used_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remember("x", 1.0)
    assert measured("x") is None


def test_a_broken_measurement_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("x", 1.0)
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(b"\xff")
    assert measured("x") is None


# -- torch, without importing it


def test_the_installed_build_of_torch_is_read_from_its_files() -> None:
    import importlib.metadata

    build = torch_build()
    assert build is not None
    assert build.version == importlib.metadata.version("torch")
    assert bool(build.cuda) != build.version.endswith("+cpu")


@pytest.mark.parametrize(
    ("text", "version", "cuda"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip = '1'", "2.13.0+cpu", ""),
        ("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\n", "2.13.0", "13.0"),
        ("__version__ = '2.5.1+cu124'\ncuda = '12.4'\n", "2.5.1+cu124", "12.4"),
    ],
)
def test_every_build_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str, cuda: str
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('torch must not be imported')")
    (package / "version.py").write_text(text)
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    build = torch_build()
    assert build is not None
    assert (build.version, build.cuda) == (version, cuda)


def test_an_accelerator_is_cuda_mps_or_nothing() -> None:
    assert accelerator() in ("cuda", "mps", "")
