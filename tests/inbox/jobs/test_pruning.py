"""Pruning: which checkpoints of an inbox are deleted, and which never are."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.world import World

from headway.base.errors import Cause, UsageError
from headway.inbox.jobs.pruning import prune
from headway.inbox.jobs.queue import Queue
from headway.runs.folder import RunFolder


def pruned(world: World, budget: int | None = None) -> int:
    return prune(world.inbox, world.queue().jobs, None, budget)


def undo(world: World) -> Queue:
    queue = world.queue()
    queue.undo()
    return queue


def test_old_models_go_and_never_the_last_two(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(5):
        world.drop(f"{number}.txt", at_s=number)
    world.run(keep_models=2)
    runs = sorted(world.inbox.runs.iterdir())
    assert [len(list(run.glob("checkpoint-*"))) for run in runs] == [0, 0, 0, 1, 1]
    assert all((run / "receipt.json").exists() for run in runs)
    assert world.model == [f"{number}.txt\n" for number in range(5)]
    undo(world)
    assert len(world.model) == 4
    with pytest.raises(UsageError, match=r"the model after 2\.txt was deleted") as refusal:
        undo(world)
    assert refusal.value.cause is Cause.NO_CHECKPOINT
    assert len(world.model) == 4
    assert pruned(world) == 0


def checkpoints(world: World) -> list[int]:
    return [len(list(run.glob("checkpoint-*"))) for run in sorted(world.inbox.runs.iterdir())]


def test_a_disk_budget_deletes_the_oldest_and_says_what_it_cannot(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.drop(f"{number}.txt", at_s=number)
    world.run()
    assert checkpoints(world) == [1, 1, 1, 1]
    runs = [RunFolder(run).checkpoints()[0] for run in sorted(world.inbox.runs.iterdir())]
    sizes = [one.num_bytes for one in runs]
    assert pruned(world, sum(sizes)) == 0
    assert checkpoints(world) == [1, 1, 1, 1]
    assert pruned(world, sum(sizes) - 1) == 0
    assert checkpoints(world) == [0, 1, 1, 1]
    assert pruned(world, 1) == sum(sizes[2:]) - 1
    assert checkpoints(world) == [0, 0, 1, 1]
    assert len(world.model) == 4


def test_the_models_of_files_that_failed_go_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.drop(f"{number}.txt", at_s=number)
    world.run()
    undo(world)
    assert pruned(world, 10**9) == 0
    assert checkpoints(world) == [1, 1, 1, 1]
    left = sum(
        RunFolder(run).checkpoints()[0].num_bytes for run in sorted(world.inbox.runs.iterdir())[:3]
    )
    assert pruned(world, left) == 0
    assert checkpoints(world) == [1, 1, 1, 0]


def test_a_model_that_is_still_to_be_measured_stays(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.drop(f"{number}.txt", at_s=number)
    world.run()
    jobs = world.queue().jobs
    jobs[0] = replace(jobs[0], is_settled=False)
    prune(world.inbox, jobs, 2)
    assert checkpoints(world) == [1, 0, 1, 1]
