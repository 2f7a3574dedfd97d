"""Process tree: processes with all their descendants."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import PROC, stat_fields


def process_tree(pids: Sequence[int], parents: Mapping[int, int]) -> list[int]:
    """Those of the processes that exist, then all their descendants, parents before children.

    Zombies are among them: processes that have ended and that their parents have not asked about.

    Args:
        pids: each is listed once.
        parents: the parent of each process there is.
    """
    tree = [pid for pid in dict.fromkeys(pids) if pid in parents]
    children: dict[int, list[int]] = {}
    for pid in sorted(parents):
        children.setdefault(parents[pid], []).append(pid)
    listed = set(tree)
    for pid in tree:  # it grows
        new = [child for child in children.get(pid, ()) if child not in listed]
        tree += new
        listed.update(new)
    return tree


def tops(pids: Sequence[int], parents: Mapping[int, int]) -> tuple[int, ...]:
    """Those of the processes that are not descendants of other ones."""
    return tuple(pid for pid in pids if not _ancestors(pid, parents) & set(pids))


def _ancestors(pid: int, parents: Mapping[int, int]) -> set[int]:
    found: set[int] = set()
    while (pid := parents.get(pid, 0)) and pid not in found:
        found.add(pid)
    return found


def parents_by_pid(proc: Path = PROC) -> dict[int, int]:
    """The parent of each process that this user can see."""
    if not proc.is_dir():
        return _parents_without_proc()
    found: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            fields = stat_fields(entry / "stat")
            if len(fields) > 1:  # else it ended meanwhile
                found[int(entry.name)] = int(fields[1])
    return found


def _parents_without_proc() -> dict[int, int]:
    import psutil  # here: it would delay the first line of every command

    found: dict[int, int] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found[process.pid] = process.ppid()
    return found
