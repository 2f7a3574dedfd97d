"""Counters: CPU, page faults and bytes of a process, and CPU of its threads."""

from pathlib import Path

import pytest
from tests.diagnose.evidence.kernel.fake_proc import TICKS_PER_S, add_process

from headway.diagnose.evidence.kernel import counters
from headway.diagnose.evidence.kernel.counters import read_counters, thread_ids


def test_what_the_kernel_has_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "TICKS_PER_S", TICKS_PER_S)
    process = add_process(tmp_path, 10, cpu=250, faults=7, started=900, threads=(12,))
    (process / "io").write_text("rchar: 5\nread_bytes: 4096\nwrite_bytes: 8192\n")
    found = read_counters(10, tmp_path)
    assert found is not None
    assert (found.started, found.cpu_s, found.major_faults) == (900, 2.5, 7)
    assert (found.read_bytes, found.written_bytes) == (4096, 8192)
    assert found.thread_cpu_s == {10: 2.5, 12: 2.5}


def test_a_process_of_another_user_has_no_bytes(tmp_path: Path) -> None:
    add_process(tmp_path, 10)
    found = read_counters(10, tmp_path)
    assert found is not None
    assert (found.read_bytes, found.written_bytes) == (0, 0)


def test_a_process_that_is_gone_has_no_counters(tmp_path: Path) -> None:
    assert read_counters(10, tmp_path) is None
    assert thread_ids(tmp_path / "10") == []


def test_the_main_thread_comes_first(tmp_path: Path) -> None:
    assert thread_ids(add_process(tmp_path, 10, threads=(7, 12))) == [10, 7, 12]
