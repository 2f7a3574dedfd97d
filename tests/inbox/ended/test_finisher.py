"""What becomes of trained files: measured beside the next one, they end as if they were not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.inbox.recall.test_still_known import NEWEST, WORSE
from tests.inbox.test_daemon import fill
from tests.inbox.world import MortalDisk, World

from headway.inbox.daemon import Daemon
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.recall.gate import GateTerm
from headway.inbox.training_process import FileRequest

TABLES = {"a.txt": (NEWEST,), "b.txt": (WORSE, NEWEST)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.drop("a.txt", at_s=0)
    world.drop("b.txt", at_s=1)
    world.known = TABLES
    return world


def start(world: World, **options: Any) -> Daemon:
    """A daemon whose trainer measures a file when it is told to."""
    daemon = world.start(**options)
    world.trainer.is_late = True
    return daemon


def until_started(world: World, number: int) -> FileRequest:
    while len(world.trainer.requests) < number:
        world.steps(1)
    return world.trainer.requests[-1]


def test_the_next_file_is_trained_while_the_one_before_is_measured(world: World) -> None:
    start(world)
    second = until_started(world, 2)
    assert (second.name, second.parent.rpartition("/")[2]) == ("b.txt", "0001-a")
    assert world.model == ["a.txt\n"]  # it moves on at once
    assert world.jobs == {"a.txt": "done", "b.txt": "claimed"}
    assert world.names("processing") == ["a.txt", "b.txt"]
    assert world.names("done") == []  # its receipt has the table
    assert world.notices == []
    world.trainer.is_slow = True
    world.trainer.measure()
    world.steps(1)
    assert world.names("done") == ["a.txt", "a.txt.receipt.json"]
    assert world.beside("done/a.txt")["still_known"]["files"][0]["name"] == "b.jsonl"
    assert [notice.kind.value for notice in world.notices] == ["done"]


def test_the_last_file_is_measured_before_the_daemon_ends(world: World) -> None:
    daemon = start(world)
    until_started(world, 2)
    assert daemon.job
    assert daemon.job.name == "b.txt"
    for _ in range(20):
        assert daemon.step(world.now_s).code is None
        assert daemon.job  # the watchdog is fed by what it does
        world.now_s += 1
    world.trainer.measure()
    world.steps(3)
    assert daemon.step(world.now_s).code == 0
    assert daemon.job is None
    assert world.names("processing") == []
    kinds = [notice.kind.value for notice in world.notices]
    assert kinds == ["done", "done", "forgot"]


def test_a_gate_that_asks_for_the_table_waits_for_it(world: World) -> None:
    start(world, promote_if=(GateTerm.NOTHING_FORGOTTEN,))
    until_started(world, 2)
    assert world.jobs["a.txt"] == "done"
    assert world.names("done") == ["a.txt", "a.txt.receipt.json"]
    assert [request.beside for request in world.trainer.requests] == [False, False]


def test_a_file_of_the_same_name_waits(world: World) -> None:
    start(world)
    until_started(world, 2)
    world.trainer.measure()
    world.steps(2)  # b.txt is trained, and not measured
    world.drop("b.txt", "another", at_s=2)
    world.steps(10)
    assert len(world.trainer.requests) == 2
    assert world.names("") == ["b.txt"]
    world.trainer.measure()
    world.steps(10)
    assert world.model == ["a.txt\n", "b.txt\n", "another"]


@pytest.mark.parametrize("how", ["the process died", "the daemon died"])
def test_a_measurement_that_was_lost_is_made_before_the_next_file(world: World, how: str) -> None:
    start(world, ends={"b.txt": [TrainingEnd(-9), None]})
    until_started(world, 2)
    world.trainer.lose()
    if how == "the daemon died":
        start(world, ends={"b.txt": [TrainingEnd(-9), None]})
    until_started(world, 3 if how == "the process died" else 1)
    again = world.trainer.requests[-1]
    assert (again.name, again.beside) == ("a.txt", False)
    assert [one.name for one in again.learned] == ["a.txt"]
    world.trainer.is_late = False
    world.steps(60)
    assert world.model == ["a.txt\n", "b.txt\n"]
    assert world.queue().jobs[0].attempts == 1
    assert world.beside("done/a.txt")["still_known"] is not None
    assert world.names("processing") == []


def test_a_table_that_cannot_be_measured_is_not_waited_for(world: World) -> None:
    start(world)
    until_started(world, 2)
    world.trainer.lose()
    world.trainer.known = {}
    world.trainer.is_late = False
    world.steps(20)
    assert world.jobs == {"a.txt": "done", "b.txt": "done"}
    assert world.beside("done/a.txt")["still_known"] is None
    assert world.names("processing") == []


def test_undo_takes_back_what_is_not_measured(world: World) -> None:
    (world.inbox.path / "b.txt").unlink()
    start(world, once=False)
    until_started(world, 1)
    world.steps(2)
    assert world.daemon is not None
    world.daemon.close()
    assert world.names("processing") == ["a.txt"]
    queue = world.queue()
    assert queue.recover() == []
    assert queue.undo().name == "a.txt"
    assert world.names("failed") == ["a.txt", "a.txt.error.txt", "a.txt.receipt.json"]
    assert world.names("processing") == world.names("done") == world.model == []


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_f49_killed_at_every_change_while_files_are_measured_beside(
    tmp_path: Path, before: bool
) -> None:
    def made(name: str) -> World:
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        fill(world)
        world.known = TABLES
        return world

    twin, counted = made("twin"), MortalDisk()
    twin.run(counted)
    for last in range(counted.num):
        world = made(str(last))
        assert world.run_killed(MortalDisk(last, before=before)), last
        world.run()
        assert world.model == twin.model == ["one", "two"], last
        assert (world.tree(), world.jobs) == (twin.tree(), twin.jobs), last
        assert world.names("processing") == [], last
        for name in ("a.txt", "b.txt"):
            assert world.beside(f"done/{name}")["still_known"] is not None, last
        shutil.rmtree(tmp_path / str(last))
