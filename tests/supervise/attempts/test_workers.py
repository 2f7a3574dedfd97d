"""The workers of a run are connected, told to train, and missed when they are gone."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.base.errors import Cause, Finding
from headway.runs.workers import WorkerTree
from headway.supervise.attempts import workers as module
from headway.supervise.attempts.workers import Workers


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """A root and two members, which wait for a plan."""
    started = Workers(WorkerTree(3, 2), tmp_path, adapters=False)
    yield started
    for process in started.processes:
        process.end()


def losses_of(workers: Workers) -> list[Finding]:
    """What is told of the next worker that is gone."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = workers.take_losses()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("nobody was missed")


def test_a_killed_worker_is_named_once_with_the_signal(workers: Workers) -> None:
    assert workers.take_losses() == []
    os.kill(workers.processes[1].pid, signal.SIGKILL)
    (lost,) = losses_of(workers)
    assert lost.what == "worker 1 of 3 (group 0) was killed by SIGKILL"
    assert (lost.kind, lost.cause) == ("warning", Cause.PROCESS_KILLED)
    assert workers.take_losses() == []


def test_only_the_two_ends_of_a_link_hold_it() -> None:
    links, ends = module._connect(WorkerTree(4, 2))
    try:
        assert {rank: sorted(own) for rank, own in links.items()} == {
            0: [1, 2],
            1: [0],
            2: [0, 3],
            3: [2],
        }
        links[2][3].sendall(b"x")
        assert links[3][2].recv(9, socket.MSG_DONTWAIT) == b"x"
    finally:
        for end in ends:
            end.close()
