"""Backups before a file: made once for each model, and what undo goes back to."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.inbox.world import World

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.inbox.jobs.model_backup import KIND, back_up_model, restore_model
from headway.runs.archive.backup import list_backups

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a checkpoint, whose content is not looked at here."""
    folder = tmp_path / "runs/0001-a"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "checkpoint-2/model.json").write_text("[1, 2]")
    (folder / "model").symlink_to("checkpoint-2")
    return folder


def back_up(run: Path) -> bool:
    return back_up_model(run, "before b.jsonl", NOW, Pulse())


def test_a_model_is_backed_up_once_and_says_before_what(run: Path) -> None:
    assert [back_up(run), back_up(run)] == [True, False]
    (made,) = list_backups(run)
    assert (made.made.type, made.made.note) == (KIND, "before b.jsonl")
    assert (made.path / "run/checkpoint-2/model.json").read_text() == "[1, 2]"


def test_a_model_that_was_deleted_is_restored(run: Path) -> None:
    assert not restore_model(run, "checkpoint-2", NOW)
    back_up(run)
    shutil.rmtree(run / "checkpoint-2")
    assert not restore_model(run, "checkpoint-9", NOW)
    assert restore_model(run, "checkpoint-2", NOW)
    assert (run / "checkpoint-2/model.json").read_text() == "[1, 2]"
    assert (run / "model").resolve() == run / "checkpoint-2"


def test_undo_goes_back_to_a_model_that_was_pruned_if_it_was_backed_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.drop(f"{number}.txt", at_s=number)
        world.run()
        assert not world.trainer.requests[0].backup
        back_up_model(world.inbox.runs / world.queue().jobs[-1].run, "", NOW, Pulse())
    world.drop("4.txt", at_s=4)
    world.run(keep_models=2, before_file="backup")
    assert world.trainer.requests[0].backup
    queue = world.queue()
    model = [queue.inbox.runs / job.run / "checkpoint-2" for job in queue.jobs]
    assert not model[0].exists()
    for left in (4, 3, 2, 1):
        world.queue().undo()
        assert world.model == [f"{number}.txt\n" for number in range(left)]
    world.queue().undo()
    assert world.model == []


def test_without_a_backup_undo_says_what_would_have_kept_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        world.drop(f"{number}.txt", at_s=number)
    world.run(keep_models=2)
    world.queue().undo()
    with pytest.raises(UsageError, match="was deleted") as refusal:
        world.queue().undo()
    assert refusal.value.cause is Cause.NO_CHECKPOINT
    assert "before_file: backup" in refusal.value.need
