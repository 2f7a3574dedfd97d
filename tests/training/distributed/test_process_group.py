"""Waits for other ranks beat the pulse, can be left, and end when a rank is gone."""

import threading
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, MachineError
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.process_group import ProcessGroup


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> ProcessGroup:
    """A group that is connected to nothing."""
    module = "headway.training.distributed.process_group"
    monkeypatch.setattr(f"{module}.dist.init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(f"{module}._SLICE_S", 0.01)
    nothing: Any = None
    return ProcessGroup(nothing, WorkerTree(2), 0, "cpu", Pulse())


def test_a_wait_looks_on(group: ProcessGroup) -> None:
    enough, looks = threading.Event(), []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()

    group.run(lambda: assert_true(enough.wait(20)), "gradients", look)
    assert len(looks) >= 3


def assert_true(value: object) -> None:
    assert value


def test_a_wait_can_be_left(group: ProcessGroup) -> None:
    release = threading.Event()

    def leave() -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        group.run(lambda: assert_true(release.wait(20)), "gradients", leave)
    release.set()


def test_what_is_never_made_can_be_left(
    group: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the others ended while they were connecting: torch would wait for it."""
    release = threading.Event()
    module = "headway.training.distributed.process_group"
    monkeypatch.setattr(
        f"{module}.dist.init_process_group", lambda *_, **__: assert_true(release.wait(20))
    )

    def leave() -> None:
        raise KeyError("gone")

    nothing: Any = None
    with pytest.raises(KeyError):
        ProcessGroup(nothing, WorkerTree(2), 0, "cpu", Pulse(), leave)
    release.set()


def test_a_broken_connection_is_a_lost_worker(group: ProcessGroup) -> None:
    def fail() -> None:
        raise RuntimeError("Connection closed by peer\nin tcp/pair.cc")

    with pytest.raises(MachineError) as lost:
        group.run(fail, "gradients")
    assert lost.value.cause is Cause.WORKER_LOST
    assert lost.value.have == "Connection closed by peer"


def test_ranks_meet_in_a_file(tmp_path: Path) -> None:
    from tests.training.distributed.gloo import run_ranks

    first, second = run_ranks(tmp_path, WorkerTree(2), "all-reduced")
    assert first == second
