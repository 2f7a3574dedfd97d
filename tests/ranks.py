"""Processes of several ranks, connected as workers are, for tests of what they do together."""

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.links import Links
from headway.training.distributed.place import TeamPlace

LIMIT_S = 120


def in_ranks(tree: WorkerTree, folder: Path, work: Callable[[TeamPlace, Pulse], object]) -> None:
    """Do something in a process for each worker; what fails in one of them fails here.

    Args:
        tree: of the workers.
        folder: for what they tell each other; it may exist.
        work: gets each worker's place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sockets: dict[int, dict[int, socket.socket]] = {rank: {} for rank in range(tree.workers)}
    for rank in range(1, tree.workers):
        parent = tree.parent_of(rank)
        assert parent is not None
        sockets[parent][rank], sockets[rank][parent] = socket.socketpair()
    pids = [_forked(tree, rank, folder, sockets, work) for rank in range(tree.workers)]
    for own in sockets.values():
        for one in own.values():
            one.close()
    until_s, left = time.monotonic() + LIMIT_S, dict(enumerate(pids))
    while left and time.monotonic() < until_s:
        left = {rank: pid for rank, pid in left.items() if not os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.02)
    for pid in left.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not left, f"ranks {list(left)} did not end"
    failures = [file.read_text() for file in sorted(folder.glob("failure-*"))]
    assert not failures, "\n".join(failures)


def _forked(
    tree: WorkerTree,
    rank: int,
    folder: Path,
    sockets: dict[int, dict[int, socket.socket]],
    work: Callable[[TeamPlace, Pulse], object],
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for other, own in sockets.items():
            for one in own.values() if other != rank else ():
                one.close()
        torch.set_num_threads(1)  # the threads of the process before the fork are not there
        store = dist.FileStore(str(folder / "meeting"), tree.workers)
        dist.init_process_group(
            "gloo",
            store=store,
            rank=rank,
            world_size=tree.workers,
            timeout=timedelta(seconds=LIMIT_S),
        )
        pulse = Pulse(rank=rank)
        work(TeamPlace(tree, rank, Links(tree, rank, sockets[rank], pulse)), pulse)
    except BaseException:
        (folder / f"failure-{rank}").write_text(traceback.format_exc())
    finally:
        os._exit(0)
