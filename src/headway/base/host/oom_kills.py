"""Processes that the system's out-of-memory killer has ended, as it counts them."""

from pathlib import Path

from headway.base.machine import cgroup_folders

_VMSTAT = Path("/proc/vmstat")
_COUNTER = "oom_kill"
# Of control groups of version 2, and of version 1.
_NAMES = ("memory.events", "memory.oom_control")


def count_oom_kills() -> int | None:
    """How many it has ended so far in this process's control group; None where nothing counts.

    Without control groups it is the machine's count.
    """
    files = [folder / name for folder in cgroup_folders() for name in _NAMES]
    counted = (_counter(file) for file in (*files, _VMSTAT))  # a process's own group comes first
    return next((number for number in counted if number is not None), None)


def _counter(file: Path) -> int | None:
    try:
        words = file.read_text(encoding="utf-8").split()
    except OSError:
        return None
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values[_COUNTER]) if _COUNTER in values else None
