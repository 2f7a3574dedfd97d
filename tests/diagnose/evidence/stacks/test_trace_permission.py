"""Trace permission: who may read a stack, and the line that allows it."""

import os
from pathlib import Path

import pytest

from headway.diagnose.evidence.stacks import trace_permission
from headway.diagnose.evidence.stacks.trace_permission import trace_problem


def refuse(*_: object) -> int:
    raise PermissionError


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that must not be traced, by user 1000, who has no special rights."""
    monkeypatch.setattr(trace_permission.os, "open", refuse)
    monkeypatch.setattr(trace_permission.os, "geteuid", lambda: 1000)
    folder = tmp_path / "proc"
    (folder / "10").mkdir(parents=True)
    (folder / "10" / "status").write_text("Uid:\t1000\t1000\t1000\t1000\n")
    (folder / "self").mkdir()
    (folder / "self" / "status").write_text("CapEff:\t0000000000000000\n")
    return folder


def set_scope(proc: Path, scope: int) -> None:
    place = proc / "sys" / "kernel" / "yama"
    place.mkdir(parents=True)
    (place / "ptrace_scope").write_text(f"{scope}\n")


def test_ones_own_process_may_be_read() -> None:
    assert trace_problem(os.getpid()) == ""


def test_a_process_that_is_gone_is_no_problem(tmp_path: Path) -> None:
    assert trace_problem(10, tmp_path) == ""


def test_another_users(proc: Path) -> None:
    (proc / "10" / "status").write_text("Uid:\t0\t0\t0\t0\n")
    told = trace_problem(10, proc)
    assert told == "it belongs to user 0: sudo headway diagnose --pid 10"


@pytest.mark.parametrize(
    ("scope", "line"),
    [(1, "sudo sysctl kernel.yama.ptrace_scope=0"), (2, "sudo headway diagnose --pid 10")],
)
def test_a_system_that_lets_only_parents_trace(proc: Path, scope: int, line: str) -> None:
    set_scope(proc, scope)
    told = trace_problem(10, proc)
    assert f"kernel.yama.ptrace_scope is {scope}" in told
    assert line in told


def test_a_system_that_lets_nobody_trace_offers_no_line_that_fails(proc: Path) -> None:
    set_scope(proc, 3)
    assert "sudo" not in trace_problem(10, proc)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "proc/1/cgroup"])
def test_root_in_a_container_without_the_capability(
    proc: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setattr(trace_permission.os, "geteuid", lambda: 0)
    (proc / "10" / "status").write_text("Uid:\t0\t0\t0\t0\n")
    file = proc.parent / mark
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("0::/kubepods/x\n")
    assert "--cap-add SYS_PTRACE" in trace_problem(10, proc)


def test_a_refusal_without_a_known_reason_still_has_a_line(proc: Path) -> None:
    assert "sudo headway diagnose --pid 10" in trace_problem(10, proc)
