"""A worker below the root does what the root says, and what it cannot do is told."""

from pathlib import Path

from tests.training.jobs import planned
from tests.training.sharded.shards import run_shards

from headway.base.errors import Cause
from headway.base.events import Ended
from headway.runs.workers import WorkerTree
from headway.training.sharded import sharded_member


def test_a_member_that_is_asked_to_stop_stops_the_run_which_saves(
    here: Path, tmp_path: Path
) -> None:
    plan = planned(here, reduction="hsdp", nproc=2, max_steps=5)
    shards = run_shards(tmp_path / "shards", plan, WorkerTree(2, 1), stops={1: "SIGTERM"})
    assert shards.receipt.outcome == "interrupted"
    assert shards.receipt.steps.applied == 1
    assert shards.receipt.checkpoint is not None
    assert shards.folder.newest_verified()[0] is not None


def test_the_root_says_what_a_member_ran_out_of(here: Path, tmp_path: Path) -> None:
    plan = planned(here, reduction="hsdp", nproc=2, max_steps=5)
    taken = list[int]()
    take_step = sharded_member.ShardedTrainer.stepper_kind._gradients

    def without_memory(stepper: object, *arguments: object) -> object:
        taken.append(1)
        if len(taken) == 2 and stepper._team.__class__.__name__ == "ShardedMember":
            raise MemoryError("none left")
        return take_step(stepper, *arguments)  # pyright: ignore[reportArgumentType, reportCallIssue]

    stepper = sharded_member.ShardedTrainer.stepper_kind
    stepper._gradients = without_memory  # pyright: ignore[reportAttributeAccessIssue]
    try:
        shards = run_shards(tmp_path / "shards", plan, WorkerTree(2, 1), fails=(1,))
    finally:
        stepper._gradients = take_step
    (ended,) = shards.of(Ended)
    assert ended.finding.cause is Cause.OUT_OF_MEMORY
    assert "worker 1" in ended.finding.what
    assert shards.receipt.steps.applied == 1
    assert shards.receipt.checkpoint is None  # no shard is saved without the others
