"""Threads: states, wait channels, calls and cores."""

from pathlib import Path

import pytest
from tests.diagnose.evidence.kernel.fake_proc import add_process, stat_line

from headway.diagnose.evidence.facts import ThreadFacts
from headway.diagnose.evidence.kernel import system_calls
from headway.diagnose.evidence.kernel.threads import read_threads


def test_the_threads_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_calls.system_call, "__defaults__", ("x86_64",))
    process = add_process(tmp_path, 10, threads=(8,))
    other = process / "task" / "8"
    (other / "stat").write_text(stat_line(8, state="D"))
    (other / "wchan").write_text("io_schedule")
    (other / "syscall").write_text("1 0x4 0x7f")
    (other / "comm").write_text("saver\n")
    (process / "task" / "9").mkdir()  # it has just ended
    assert read_threads(process, {8: 0.5}) == (
        ThreadFacts(10, "python", "S"),
        ThreadFacts(8, "saver", "D", "io_schedule", "write", 4, 0.5),
    )


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert read_threads(tmp_path / "10", {}) == ()
