"""Workers that are gone, frozen or stuck are named, and ended."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.fixtures import pulse

from headway.base.errors import Cause, Finding
from headway.base.process import ChildProcess
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.runs.workers import WorkerTree
from headway.supervise.attempts.worker_watch import WorkerWatch
from headway.supervise.attempts.workers import start_worker
from headway.supervise.stalls import explainer, stall_limits, stall_watch
from headway.supervise.stalls.explainer import Explanation, Question
from headway.supervise.stalls.stall_limits import Patience

TREE = WorkerTree(3, 2)
HURRIED = Patience(beating_s=0.02, ended_s=0.05, ended_steps=1, stopped_s=0.2)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience, and a diagnosis that needs no look."""

    def answer(_: Question) -> Explanation:
        found = Finding("warning", "it is somewhere")
        return Explanation(Diagnosis(StallCause.UNKNOWN, found, Helps.RESTART))

    monkeypatch.setattr(explainer, "answer_to", answer)
    monkeypatch.setattr(stall_limits, "PATIENCE", HURRIED)
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(stall_watch, "_SILENT_S", 0.0)
    monkeypatch.setattr(stall_watch, "measured", lambda _: None)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ChildProcess]:
    """Worker 2, which waits for a plan."""
    started = start_worker(2, tmp_path, adapters=False)
    yield started
    started.end()


def losses_of(watch: WorkerWatch, step_s: float | None = None) -> list[Finding]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := watch.take_losses(step_s):
            return found
        time.sleep(0.02)
    raise AssertionError("nobody was missed")


def test_f12_a_worker_that_stands_still_is_named_and_killed(
    process: ChildProcess, tmp_path: Path
) -> None:
    watch = WorkerWatch(TREE, tmp_path, {2: process})
    assert watch.take_losses() == []
    os.kill(process.pid, signal.SIGSTOP)
    (lost,) = losses_of(watch)
    assert lost.what == "worker 2 of 3 (group 1) froze and was killed"
    assert lost.cause is Cause.WORKER_LOST
    assert process.wait() == -signal.SIGKILL
    assert watch.take_losses() == []


def test_a_worker_that_is_killed_is_named(process: ChildProcess, tmp_path: Path) -> None:
    watch = WorkerWatch(TREE, tmp_path, {2: process})
    os.kill(process.pid, signal.SIGKILL)
    (lost,) = losses_of(watch)
    assert lost.what == "worker 2 of 3 (group 1) was killed by SIGKILL"
    assert lost.cause is Cause.PROCESS_KILLED


@pytest.mark.parametrize(("waits_longer", "is_killed"), [(1.0, True), (1e6, False)])
def test_a_worker_may_wait_longer_for_workers_that_are_watched_elsewhere(
    process: ChildProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits_longer: float,
    is_killed: bool,
) -> None:
    waiting = {"activity": "waiting for workers", "waiting": "worker 0", "waiting_since": 0.0}
    reading = pulse(rank=2, pid=process.pid, **waiting)
    monkeypatch.setattr(WorkerWatch, "_pulse", lambda *_: reading)
    watch = WorkerWatch(TREE, tmp_path, {2: process}, waits_longer)
    found: list[Finding] = []
    until = time.monotonic() + 1.0
    while time.monotonic() < until and not found:
        found += watch.take_losses(step_s=0.05)
        time.sleep(0.02)
    assert bool(found) == is_killed
    if is_killed:
        assert found[0].what == "worker 2 of 3 (group 1) got stuck and was killed"
        assert found[0].have.startswith("all workers wait for one another for")
        assert "; it is somewhere; it was " in found[0].have


def test_one_worker_alone_is_watched_too_and_has_a_plain_name(
    process: ChildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pulse(pid=process.pid)
    monkeypatch.setattr(WorkerWatch, "_pulse", lambda *_: reading)
    watch = WorkerWatch(WorkerTree(1, 1), tmp_path, {0: process})
    (lost,) = losses_of(watch, step_s=0.05)
    assert lost.what == "the trainer got stuck and was killed"
    assert lost.cause is Cause.WORKER_LOST
    assert process.wait() == -signal.SIGKILL
