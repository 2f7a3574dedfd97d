"""Facts of this machine, read without torch."""

import sys
from pathlib import Path

import pytest

from headway.base.errors import Exit
from headway.base.machine import cpu_flags
from headway.doctor.checks import examine, exit_code
from headway.doctor.facts import read_machine


def test_this_machine_is_read_whole(tmp_path: Path) -> None:
    probe = read_machine(tmp_path / "runs")
    assert probe.python == sys.version_info[:3]
    assert probe.runs.problem == ""
    assert probe.runs.free_bytes > 0
    assert not (tmp_path / "runs").exists()
    assert exit_code(examine(probe)) in (Exit.KEPT, Exit.MACHINE)


def test_a_place_that_takes_no_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert read_machine(tmp_path / "runs").runs.problem == "a file"
    assert read_machine(Path("/proc/headway")).runs.problem


@pytest.mark.parametrize("threads", ["", "all", "-1"])
def test_a_strange_thread_count_is_none(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert read_machine().omp_num_threads is None


def test_the_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "headway" / "measured").mkdir(parents=True)
    (tmp_path / "headway" / "measured" / "a.json").write_bytes(bytes(1000))
    (tmp_path / "headway" / "b").write_bytes(bytes(24))
    assert read_machine().cache_bytes == 1024


def test_cpu_flags_of_x86_and_arm() -> None:
    x86 = "processor : 0\nvendor_id: G\nflags\t\t: fpu fma amx_bf16\n\nprocessor : 1\nflags : fpu\n"
    assert cpu_flags(x86) == {"fpu", "fma", "amx_bf16"}
    assert cpu_flags("Features\t: fp asimd bf16\n") == {"fp", "asimd", "bf16"}
    assert cpu_flags("") == frozenset()
