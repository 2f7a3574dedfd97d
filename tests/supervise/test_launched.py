"""One worker that a launcher started, with a stand-in for the process that computes."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.supervise.test_supervisor import Child, Screen
from tests.ui.fixtures import conversations_plan

from headway.base.errors import (
    Cause,
    ComeBack,
    DataRefused,
    Exit,
    Finding,
    MachineError,
    UsageError,
)
from headway.base.events import AttemptStarted, Ended, EventLog
from headway.base.host.launcher import LaunchedPlace
from headway.base.lock import RunLock
from headway.base.process import Stop
from headway.runs.folder import RunFolder
from headway.runs.settled import load_settled
from headway.supervise import launched
from headway.supervise.launched import LaunchedWorker

PLACE = LaunchedPlace("torchrun", 0, 4, 0, 2, "127.0.0.1", 29500)


class LaunchedOfTest:
    """A launched worker whose process does what a test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.screen, self.stop = RunFolder(folder / "notes"), Screen(), Stop()
        self.folder.path.mkdir()
        conversations_plan().save(self.folder.path)
        self.children: list[Child] = []
        self.work: Any = lambda _: 0

        def start(rank: int, live: Path, *, adapters: bool) -> Child:
            del live
            Child.started = self.children
            child = Child("worker", [str(rank), str(adapters)])
            child.pid = os.getpid()  # type: ignore[attr-defined]
            child.work = self.work  # type: ignore[method-assign]
            return child

        monkeypatch.setattr(launched, "start_worker", start)
        monkeypatch.setattr("headway.supervise.watch.POLL_S", 0.0)
        monkeypatch.setattr(launched, "POLL_S", 0.0)

    def run(self, rank: int, restarts: int = 0) -> int:
        place = replace(PLACE, rank=rank, restarts=restarts)
        return LaunchedWorker(self.folder, place, self.screen, self.stop).run()

    @property
    def plan(self) -> Any:
        return self.folder.plan()


@pytest.fixture
def worker(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> LaunchedOfTest:
    del runtime
    return LaunchedOfTest(tmp_path, monkeypatch)


def test_the_root_owns_the_run_and_ends_with_its_code(worker: LaunchedOfTest) -> None:
    def work(_: Child) -> int:
        EventLog(worker.folder.events, 1, began_s=0.0).write(Ended("finished", 4, "broken"))
        with pytest.raises(ComeBack), RunLock(worker.folder.lock):
            pass
        return 0

    worker.work = work
    assert worker.run(rank=0) == 4
    (go,) = worker.children[0].sent
    assert (go.rank, go.workers, go.groups, go.launched) == (0, 4, 2, True)
    settled = load_settled(worker.folder.path, worker.plan)
    assert (settled.workers, settled.groups) == (4, 2)


def test_another_rank_computes_and_touches_nothing(worker: LaunchedOfTest) -> None:
    before = {path.name: path.read_bytes() for path in worker.folder.path.iterdir()}
    assert worker.run(rank=3) == Exit.KEPT
    (go,) = worker.children[0].sent
    assert (go.rank, go.workers) == (3, 4)
    assert {path.name: path.read_bytes() for path in worker.folder.path.iterdir()} == before
    assert worker.children[0].ended


def test_another_rank_says_why_it_ended(worker: LaunchedOfTest) -> None:
    def work(child: Child) -> int:
        child.sent_back = MachineError("worker 0 is gone", cause=Cause.WORKER_LOST)
        return Exit.MACHINE

    worker.work = work
    assert worker.run(rank=1) == Exit.MACHINE
    assert [str(one) for one in worker.screen.refusals] == ["worker 0 is gone"]


def test_a_worker_that_its_watch_ends_is_told_of(
    worker: LaunchedOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Finding("warning", "worker 2 of 4 (group 1) is stuck", cause=Cause.WORKER_LOST)
    told = iter([[lost]])
    monkeypatch.setattr(launched.WorkerWatch, "take_losses", lambda *_: next(told, []))
    worker.work = lambda _: -signal.SIGKILL
    assert worker.run(rank=2) == Exit.MACHINE
    assert [one.what for one in worker.screen.refusals] == [lost.what]


def test_a_stop_is_passed_on_to_the_process(worker: LaunchedOfTest) -> None:
    worker.stop.ask("SIGTERM", Exit.COME_BACK)
    worker.work = lambda _: Exit.MACHINE
    assert worker.run(rank=1) == Exit.COME_BACK
    assert signal.SIGTERM in worker.children[0].signals


STOPPED = Ended("interrupted", 75, "stopped by SIGUSR1")
REFUSED = Ended("failed", 3, "refused", DataRefused("changed", cause=Cause.DATA_CHANGED).finding())
LOST = Ended("failed", 5, "lost", MachineError("gone", cause=Cause.WORKER_LOST).finding())
KILLED = Ended("failed", 5, "killed", MachineError("dead", cause=Cause.PROCESS_KILLED).finding())
FULL = Ended("failed", 5, "full", MachineError("full", cause=Cause.DISK_FULL).finding())
STARTED = AttemptStarted("notes", "0.2.0", 1, 0, "")


@pytest.mark.parametrize(
    ("restarts", "ends", "code"),
    [
        (1, [STOPPED], 75),
        (1, [REFUSED], 3),
        (2, [FULL], 5),
        (1, [LOST], None),
        (1, [KILLED], None),
        (1, [LOST, STOPPED], None),  # torchrun stops those that are left, to start all again
        (1, [], None),  # the root was killed with its supervisor
        (0, [STOPPED], None),  # a person starts it again
    ],
)
@pytest.mark.parametrize("rank", [0, 3])
def test_a_launcher_restarts_what_lost_workers_and_nothing_else(
    worker: LaunchedOfTest, rank: int, restarts: int, ends: list[Ended], code: int | None
) -> None:
    log = EventLog(worker.folder.events, 1, began_s=0.0)
    for event in (STARTED, *ends):
        log.write(event)
    found = worker.run(rank, restarts)
    assert bool(worker.children) == (code is None)
    assert code in (None, found)


def test_an_end_of_long_ago_is_not_the_one_before_a_restart(
    worker: LaunchedOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(worker.folder.events, 1, began_s=0.0)
    for event in (STARTED, STOPPED):
        log.write(event)
    later_s = time.time() + 60
    monkeypatch.setattr(launched.psutil.Process, "create_time", lambda _: later_s)
    worker.run(rank=3, restarts=1)
    assert worker.children


def test_a_folder_without_a_plan_is_refused(worker: LaunchedOfTest, tmp_path: Path) -> None:
    del worker
    with pytest.raises(UsageError, match="has no plan") as refused:
        LaunchedWorker(RunFolder(tmp_path / "none"), None, Screen(), Stop())
    assert refused.value.remedies[0].do.startswith("headway plan DATA --save ")
