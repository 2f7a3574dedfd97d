"""Orphans: processes of a command that outlived it."""

import os
import signal
import sys
import time
from pathlib import Path

from headway.base.addresses import hide_credentials
from headway.base.process_id import ProcessId
from headway.guard.facts import Orphan

_POLL_S = 0.05


def descendants(pid: int) -> list[int]:
    """The processes below one, those nearest to it first; itself left out."""
    if sys.platform != "linux":
        import psutil

        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    found: list[int] = []
    new = _children(pid)
    while new:
        found += new
        new = [child for one in new for child in _children(one)]
    return found


def find_orphans(keeper: int, wait_s: float = 0.0) -> list[Orphan]:
    """What is left below the keeper after its command has ended.

    Args:
        keeper: which adopted it.
        wait_s: how long what is about to end may take.
    """
    until_s = time.monotonic() + wait_s
    while True:
        processes = [one for pid in descendants(keeper) if (one := ProcessId.of(pid))]
        if not processes or time.monotonic() >= until_s:
            return [Orphan(one, _command(one.pid)) for one in processes]
        time.sleep(_POLL_S)


def kill_all(keeper: int) -> int:
    """Kill what is left below the keeper; returns how many processes that were."""
    killed = set[int]()
    for _ in range(20):  # each may have started others meanwhile
        processes = [one for pid in descendants(keeper) if (one := ProcessId.of(pid))]
        if not processes:
            break
        for one in processes:
            if one.send_signal(signal.SIGKILL):
                killed.add(one.pid)
        time.sleep(_POLL_S)
    return len(killed)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names alone
    except OSError:
        return []
    for task in tasks:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_bytes().split())
        except OSError:  # a thread that has ended
            continue
    return found


def _command(pid: int) -> tuple[str, ...]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ()
    return tuple(hide_credentials(os.fsdecode(word)) for word in words)
