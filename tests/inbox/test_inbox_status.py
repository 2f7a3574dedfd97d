"""What an inbox says of itself; looking changes nothing."""

import os
from pathlib import Path

import pytest
from tests.inbox.world import World, refused

from headway.base.errors import Cause
from headway.base.lock import RunLock
from headway.inbox.folder import InboxFolder
from headway.inbox.inbox_status import inbox_status


@pytest.mark.usefixtures("runtime")
def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    status = inbox_status(InboxFolder(tmp_path / "none"))
    assert (status.state, status.global_step, status.waiting) == ("not started", 0, ())
    assert list(tmp_path.iterdir()) == [tmp_path / "live"]


@pytest.mark.usefixtures("runtime")
def test_it_says_what_was_done_and_where_the_model_stands(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(3):
        world.drop(f"{number}.txt", at_s=number)
    world.run(ends={"2.txt": [refused(3, what="too short", cause=Cause.TOO_LITTLE_DATA)]})
    world.drop("4.txt", at_s=4)
    world.drop("3.txt", at_s=3)
    os.mkfifo(world.inbox.path / "pipe")
    status = inbox_status(world.inbox)
    assert status.state == "stopped"
    assert "no daemon is running" in status.why
    assert status.counts == {"done": 2, "failed": 1}
    assert status.last is not None
    assert (status.last.name, status.last.state.value) == ("2.txt", "failed")
    assert status.global_step == 4
    assert Path(status.checkpoint) == world.inbox.current_model.resolve()
    assert [one.name for one in status.waiting] == ["3.txt", "4.txt", "pipe"]
    assert [bool(one.why) for one in status.waiting] == [False, False, True]


@pytest.mark.usefixtures("runtime")
def test_it_says_what_the_daemon_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.drop("a.txt")
    with RunLock(world.inbox.lock):
        world.start(once=False)
        world.steps(1)
        idle = inbox_status(world.inbox)
        assert (idle.state, idle.pid) == ("idle", os.getpid())
        assert idle.why == "a.txt: it changed just now"
        world.trainer.is_slow = True
        world.steps(5)
        training = inbox_status(world.inbox)
        assert (training.state, training.training, training.why) == ("training", "a.txt", "")
        world.inbox.paused.write_text("{}")
        world.steps(5)
        paused = inbox_status(world.inbox)
        assert (paused.state, paused.training) == ("paused", "a.txt")
    assert inbox_status(world.inbox).state == "stopped"
