"""Process facts: memory, debugger and rates, from two looks at one process."""

from pathlib import Path

import pytest
from tests.diagnose.evidence.kernel.fake_proc import TICKS_PER_S, add_process

from headway.diagnose.evidence.facts import OpenFile
from headway.diagnose.evidence.kernel import counters
from headway.diagnose.evidence.kernel.counters import read_counters
from headway.diagnose.evidence.kernel.open_files import OpenFiles
from headway.diagnose.evidence.kernel.process_facts import ProcessReader, command_of


@pytest.fixture(autouse=True)
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "TICKS_PER_S", TICKS_PER_S)


def io(process: Path, read: int, written: int) -> None:
    (process / "io").write_text(f"read_bytes: {read}\nwrite_bytes: {written}\n")


def test_a_process_between_two_looks(tmp_path: Path) -> None:
    io(add_process(tmp_path, 10, 3, cpu=100, faults=5), 1000, 0)
    before = read_counters(10, tmp_path)
    process = add_process(tmp_path, 10, 3, cpu=300, faults=9)
    io(process, 5000, 2000)
    (process / "status").write_text("TracerPid:\t77\nVmRSS:\t200 kB\nVmSwap:\t8 kB\n")
    found = ProcessReader(2.0, tmp_path).read(10, before, read_counters(10, tmp_path))
    assert found is not None
    assert (found.pid, found.parent, found.command) == (10, 3, ("python", "train.py"))
    assert (found.cpu, found.main_thread.cpu, found.major_faults_per_s) == (1.0, 1.0, 2.0)
    assert (found.read_bytes_per_s, found.written_bytes_per_s) == (2000.0, 1000.0)
    assert (found.memory_bytes, found.swapped_bytes, found.debugger) == (204800, 8192, 77)


def test_a_number_that_another_process_got_has_no_rates(tmp_path: Path) -> None:
    add_process(tmp_path, 10, cpu=100, started=500)
    before = read_counters(10, tmp_path)
    add_process(tmp_path, 10, cpu=900, started=777)
    found = ProcessReader(1.0, tmp_path).read(10, before, read_counters(10, tmp_path))
    assert found is not None
    assert (found.cpu, found.main_thread.cpu) == (0.0, 0.0)


def test_a_process_that_is_gone_has_no_facts(tmp_path: Path) -> None:
    assert ProcessReader(1.0, tmp_path).read(10, None, None) is None


def test_a_kernel_thread_or_a_zombie_has_a_name_and_no_command(tmp_path: Path) -> None:
    assert command_of(add_process(tmp_path, 10, name="kworker", command="")) == ("[kworker]",)
    assert command_of(tmp_path / "11") == ()


def test_a_command_is_kept_without_its_secrets(tmp_path: Path) -> None:
    process = add_process(tmp_path, 10, command="python\0t.py\0--token\0planted\0")
    assert command_of(process) == ("python", "t.py", "--token", "...")


def test_another_users_files_are_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: OpenFiles, __: Path) -> tuple[OpenFile, ...]:
        raise PermissionError

    add_process(tmp_path, 10)
    monkeypatch.setattr(OpenFiles, "read", refuse)
    found = ProcessReader(1.0, tmp_path).read(10, None, read_counters(10, tmp_path))
    assert found is not None
    assert found.open_files == ()
    assert "sudo" in found.unread
