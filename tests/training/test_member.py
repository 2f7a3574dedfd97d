"""A member computes what the root asks for, with the root's weights, until there is no more."""

import os
import threading
import time
from pathlib import Path

import pytest
from tests.helpers import Ran, run
from tests.training.distributed.sockets import Connect
from tests.training.jobs import planned

from headway.base.events import StepDone
from headway.base.process import Stop
from headway.base.pulse import Pulse
from headway.runs.plan import Plan
from headway.runs.workers import WorkerTree
from headway.training.distributed.links import Links
from headway.training.distributed.place import TeamPlace
from headway.training.member import run_member
from headway.training.phases import Phases

TREE = WorkerTree(2, 1)


def run_with_member(folder: Path, plan: Plan, connect: Connect, stop: Stop) -> tuple[Ran, object]:
    """A run of two workers: the root here, the member in a thread; and how the member ended."""
    folder.mkdir()
    plan.save(folder)
    sockets, ended = connect(TREE), list[object]()
    memory = os.memfd_create("sums")
    pulses = [Pulse(), Pulse(rank=1)]
    root, place = (
        TeamPlace(TREE, rank, Links(TREE, rank, sockets[rank], pulses[rank]), memory)
        for rank in range(2)
    )

    def member() -> None:
        try:
            ended.append(run_member(folder, place, Phases(pulses[1], None), stop))
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=member)
    thread.start()
    until_s = time.monotonic() + 60
    while pulses[1]._waiting != "worker 0" and time.monotonic() < until_s:
        time.sleep(0.01)  # both draw their first weights from torch's only random state
    try:
        return run(folder, plan, place=root), ended
    finally:
        thread.join(30)
        os.close(memory)


@pytest.fixture
def plan(here: Path) -> Plan:
    return planned(here, nproc=2, batch_size=8, max_steps=5)


def test_two_workers_train_what_one_would_to_the_last_bit(
    here: Path, tmp_path: Path, plan: Plan, connect: Connect
) -> None:
    assert plan.steps.leaves == 2
    two, ended = run_with_member(tmp_path / "two", plan, connect, Stop())
    one = run(tmp_path / "one", plan)
    assert ended == [0]
    assert two.receipt.contract.verdict == "kept"
    assert two.hashes() == one.hashes()
    assert [event.workers for event in two.of(StepDone)] == [2] * 5
    assert [event.workers for event in one.of(StepDone)] == [1] * 5
    assert [worker.rows for worker in two.receipt.workers] == [20, 20]
    assert one.receipt.workers == ()


def test_a_member_that_is_asked_to_stop_stops_the_run_which_saves(
    tmp_path: Path, plan: Plan, connect: Connect
) -> None:
    stop = Stop()
    stop.by = "SIGTERM"
    ran, ended = run_with_member(tmp_path / "two", plan, connect, stop)
    assert ended == [0]
    assert ran.receipt.outcome == "interrupted"
    assert ran.receipt.steps.applied == 1
    assert ran.receipt.checkpoint is not None
