"""Trace permission: whether this process may read another one's stack, and what allows it."""

import os
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import PROC, fields_of, text_of, whole

_CAP_SYS_PTRACE = 19


def trace_problem(pid: int, proc: Path = PROC) -> str:
    """Why the stack of a process must not be read, with the line that allows it; "" if it may be.

    Opening a process's memory needs the same permission as tracing it does.
    """
    process = proc / str(pid)
    try:
        os.close(os.open(process / "mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return _reason(process, proc)
    except OSError:  # it is gone, or a zombie, or there is no /proc
        pass
    return ""


def ptrace_scope(proc: Path = PROC) -> int:
    """What the kernel lets this user trace: 0 all of its processes, 1 those it started, ..."""
    return whole(text_of(proc / "sys" / "kernel" / "yama" / "ptrace_scope"))


def _reason(process: Path, proc: Path) -> str:
    status, own = fields_of(process / "status"), fields_of(proc / "self" / "status")
    owner = whole(status.get("Uid", ""))
    line = f"sudo headway diagnose --pid {process.name}"
    if _is_contained(proc) and os.geteuid() == 0 and not _may_trace(own):
        return "this container may not trace: docker run --cap-add SYS_PTRACE ..."
    if owner != os.geteuid():
        return f"it belongs to user {owner}: {line}"
    scope = ptrace_scope(proc)
    if scope == 3:
        return "kernel.yama.ptrace_scope is 3: tracing is off until the machine is restarted"
    if scope:
        allow = "sudo sysctl kernel.yama.ptrace_scope=0"
        return f"kernel.yama.ptrace_scope is {scope}: {line}, or {allow}"
    if _is_contained(proc):
        return "this container may not trace: docker run --cap-add SYS_PTRACE ..."
    return f"the system does not allow tracing it: {line}"


def _may_trace(status: dict[str, str]) -> bool:
    """Whether a process has the capability to trace others."""
    return bool(int(status.get("CapEff", "0") or "0", 16) >> _CAP_SYS_PTRACE & 1)


def _is_contained(proc: Path) -> bool:
    """Whether this is a container: its first process has other marks than a machine's."""
    root = proc.parent
    marks = (root / ".dockerenv", root / "run" / ".containerenv")
    if any(mark.exists() for mark in marks):
        return True
    groups = text_of(proc / "1" / "cgroup")
    return any(word in groups for word in ("docker", "kubepods", "containerd", "libpod"))
