"""What people do with jobs that have ended: undo and retry, killed anywhere."""

import os
import shutil
from pathlib import Path

import pytest
from tests.inbox.world import Killed, MortalDisk, World, refused

from headway.base.errors import Cause, UsageError
from headway.inbox.jobs.queue import Queue


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def trained(folder: Path) -> World:
    world = World(folder)
    for number in range(3):
        world.drop(f"{number}.txt", at_s=number)
    world.run()
    return world


def undo(world: World, disk: MortalDisk | None = None) -> Queue:
    queue = world.queue(disk)
    queue.recover()
    queue.undo()
    return queue


def test_undo_takes_the_model_back_file_by_file(tmp_path: Path) -> None:
    world = trained(tmp_path)
    models = []
    for _ in range(3):
        undo(world)
        models.append(world.model)
    assert models == [["0.txt\n", "1.txt\n"], ["0.txt\n"], []]
    assert not world.inbox.current_model.is_symlink()
    with pytest.raises(UsageError, match="undone") as refusal:
        undo(world)
    assert refusal.value.cause is Cause.RUN_NOT_FOUND
    assert world.names("done") == []
    assert "was undone" in world.error("failed/2.txt")
    assert world.beside("failed/2.txt")["outcome"] == "undone"


def test_an_undone_file_can_be_trained_again(tmp_path: Path) -> None:
    world = trained(tmp_path)
    undo(world)
    world.queue().retry("2.txt")
    assert world.names("") == ["2.txt"]
    assert world.names("failed") == []
    world.run()
    assert world.model == ["0.txt\n", "1.txt\n", "2.txt\n"]
    assert world.jobs["2.txt"] == "done"


def test_what_follows_an_undone_file_goes_on_from_before_it(tmp_path: Path) -> None:
    world = trained(tmp_path)
    undo(world)
    world.drop("3.txt")
    world.run()
    assert world.model == ["0.txt\n", "1.txt\n", "3.txt\n"]


def test_nothing_is_undone_below_a_file_that_is_half_trained(tmp_path: Path) -> None:
    world = trained(tmp_path)
    world.drop("half.txt")
    world.start()
    world.trainer.is_slow = True
    world.steps(5)
    assert world.daemon is not None
    world.daemon.close()
    with pytest.raises(UsageError, match="half trained"):
        undo(world)
    world.run()
    undo(world)
    assert world.model == ["0.txt\n", "1.txt\n", "2.txt\n"]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_an_undo_that_is_killed_anywhere_is_whole_or_not_begun(
    tmp_path: Path, before: bool
) -> None:
    disk = MortalDisk()
    twin = trained(made(tmp_path / "twin"))
    undo(twin, disk)
    assert disk.num >= 6
    for last in range(disk.num):
        folder = made(tmp_path / str(last))
        world = trained(folder)
        with pytest.raises(Killed):
            undo(world, MortalDisk(last, before=before))
        queue = world.queue()
        queue.recover()
        if last or not before:
            assert world.tree() == twin.tree()
            assert world.model == twin.model
        else:
            assert world.model == ["0.txt\n", "1.txt\n", "2.txt\n"]
        shutil.rmtree(folder)


def failed(folder: Path) -> World:
    world = World(folder)
    world.drop("a.txt", at_s=0)
    end = refused(3, what="too short", cause=Cause.TOO_LITTLE_DATA)
    world.run(ends={"a.txt": [end]})
    return world


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_retry_that_is_killed_anywhere_can_be_repeated(tmp_path: Path, before: bool) -> None:
    for last in range(4):
        world = failed(made(tmp_path / str(last)))
        with pytest.raises(Killed):
            world.queue(MortalDisk(last, before=before)).retry("a.txt")
        if not os.path.lexists(world.inbox.path / "a.txt"):
            world.queue().retry("a.txt")
        world.run()
        assert world.model == ["a.txt\n"]
        assert world.names("failed") == []


def test_retry_names_what_is_there(tmp_path: Path) -> None:
    world = failed(tmp_path)
    with pytest.raises(UsageError, match=r"b\.txt is not in") as refusal:
        world.queue().retry("b.txt")
    assert refusal.value.have == "a.txt"
    assert refusal.value.remedies[0].do == f"headway inbox retry a.txt {world.inbox.path}"


def test_a_file_of_the_same_name_in_the_inbox_stays(tmp_path: Path) -> None:
    world = failed(tmp_path)
    world.drop("a.txt", "newer")
    world.queue().retry("failed/a.txt")
    assert world.names("") == ["a-0001.txt", "a.txt"]
    assert (world.inbox.path / "a.txt").read_text() == "newer"


def test_an_old_job_never_takes_the_file_of_a_new_one(tmp_path: Path) -> None:
    """A person moved a failed file by hand, and it is being trained under its old name."""
    world = failed(tmp_path)
    (world.inbox.failed / "a.txt").rename(world.inbox.path / "a.txt")
    world.start()
    world.trainer.is_slow = True
    world.steps(5)
    assert world.names("processing") == ["a.txt"]
    world.start()
    assert world.names("processing") == ["a.txt"]
    assert world.run() == 0
    assert world.jobs["a.txt"] == "done"


def test_a_file_without_a_record_goes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.inbox.processing / "a.txt").write_text("x")
    world.drop("a.txt", "other")
    assert world.run() == 0
    assert sorted(world.model) == ["other", "x"]
    assert "back in the inbox" in world.notices[0].text
