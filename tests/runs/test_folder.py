"""Run folder: which checkpoint counts, which are kept, and how runs are found."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.runs.folders import SAVES, checkpoint, flip, made, planned
from tests.training.jobs import STATE

from headway.base import files
from headway.base.errors import UsageError
from headway.base.files import verify_folder
from headway.runs.folder import RunFolder, checkpoints_to_keep, find_run, list_runs
from headway.runs.receipt import Measured

# ---- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return made(tmp_path / "runs" / "notes", planned())


def test_checkpoints_are_in_order_of_their_steps(run: RunFolder) -> None:
    for step in (900, 1000, 20):
        checkpoint(run, step)
    (run.path / "checkpoint-7").write_text("a file")
    (run.path / "checkpoint-x").mkdir()
    (run.path / ".checkpoint-8.tmp").mkdir()
    assert [c.global_step for c in run.checkpoints()] == [20, 900, 1000]


def test_the_newest_that_verifies_counts(run: RunFolder) -> None:
    for step in (1, 2, 3):
        checkpoint(run, step)
    newest, problems = run.newest_verified()
    assert newest is not None
    assert (newest.global_step, problems) == (3, [])


HARM = {
    "F40 a flipped bit": lambda folder: flip(folder / "model.safetensors"),
    "F40 a flipped bit of the manifest": lambda folder: flip(folder / "manifest.json", 120),
    "F41 cut short": lambda folder: os.truncate(folder / "model.safetensors", 3),
    "F42 a file is missing": lambda folder: (folder / "model.safetensors").unlink(),
    "F42 an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("harm", HARM)
def test_c06_one_that_does_not_verify_is_passed_over_and_told(run: RunFolder, harm: str) -> None:
    for step in (1, 2):
        checkpoint(run, step)
    HARM[harm](run.path / "checkpoint-2")
    newest, problems = run.newest_verified()
    assert newest is not None
    assert newest.global_step == 1
    assert [problem.name for problem in problems] == ["checkpoint-2"]


def test_none_is_none(run: RunFolder) -> None:
    assert run.newest_verified() == (None, [])
    flip(checkpoint(run, 1) / "model.safetensors")
    newest, problems = run.newest_verified()
    assert newest is None
    assert len(problems) == 1


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (2, [30, 40]), (9, [10, 20, 30, 40])])
def test_c07_the_newest_are_kept(run: RunFolder, keep: int, left: list[int]) -> None:
    for step in (10, 20, 30, 40):
        newest = checkpoint(run, step)
    run.publish_checkpoint(newest, replace(SAVES, keep=keep), first=0)
    assert [c.global_step for c in run.checkpoints()] == left
    assert run.model.resolve() == newest.resolve()
    assert run.model.readlink() == Path("checkpoint-40")  # a link that survives a move


def test_c07_the_published_one_is_never_deleted(run: RunFolder) -> None:
    """A later one that is broken stands in the folder when an earlier step is saved anew."""
    for step in (10, 20, 30, 40):
        checkpoint(run, step)
    flip(run.path / "checkpoint-40" / "model.safetensors")
    run.publish_checkpoint(run.path / "checkpoint-30", replace(SAVES, keep=1), first=0)
    newest, _ = run.newest_verified()
    assert newest is not None
    assert newest.global_step == 30


@pytest.mark.parametrize(
    ("held_out", "changes", "stay"),
    [
        ({10: 3.0, 20: 2.0, 30: 2.5, 40: None}, {}, {20, 30, 40}),  # the best, as long as it is
        ({10: 3.0, 20: 2.0, 30: 2.5, 40: 1.5}, {}, {30, 40}),
        ({10: 2.0, 20: 2.0, 30: 2.5, 40: 2.5}, {"keep": 1}, {20, 40}),  # of equals the later one
        ({10: None, 20: None, 30: None, 40: None}, {"keep": 1}, {40}),
        ({10: None, 20: None, 30: None, 40: None}, {"keep": 1, "keep_every": 20}, {20, 40}),
        ({25: 1.0, 35: None, 45: None}, {"keep": 1, "keep_every": 20}, {25, 45}),  # first is 5
    ],
)
def test_c07_the_newest_the_best_and_every_so_many_are_kept(
    held_out: dict[int, float | None], changes: dict[str, Any], stay: set[int]
) -> None:
    first = 5 if 25 in held_out else 0
    assert checkpoints_to_keep(held_out, replace(SAVES, **changes), first) == stay


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_c07_the_best_so_far_is_there_after_every_save(run: RunFolder, keep: int) -> None:
    losses = [3.0, 2.0, 1.5, 1.75, 2.5, 1.6, 2.0]
    for number, loss in enumerate(losses, 1):
        final = checkpoint(run, number)
        state = replace(STATE, global_step=number, held_out=Measured(loss, 0.1, 8))
        (final / "headway.json").write_bytes(msgspec.json.encode(state))
        run.publish_checkpoint(final, replace(SAVES, keep=keep), first=0)
        there = [c.global_step for c in run.checkpoints()]
        assert losses.index(min(losses[:number])) + 1 in there
        assert there[-keep:] == list(range(1, number + 1))[-keep:]
        assert len(there) <= keep + 1


def test_what_is_deleted_half_way_is_no_checkpoint(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it deletes: no half of a checkpoint stands under its name."""
    for step in (10, 20, 30):
        newest = checkpoint(run, step)
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
    run.publish_checkpoint(newest, SAVES, first=0)
    monkeypatch.undo()
    assert [c.global_step for c in run.checkpoints()] == [20, 30]
    run.delete_leftovers()
    assert not list(run.path.glob(".checkpoint-*"))


# ---- quarantine --------------------------------------------------------------------------------


def test_one_that_does_not_verify_is_moved_whole_and_never_over_another(run: RunFolder) -> None:
    for expected in ("checkpoint-1", "checkpoint-1-2", "checkpoint-1-3"):
        bad = checkpoint(run, 1)
        flip(bad / "model.safetensors")
        moved = run.quarantine(bad)
        assert moved == run.path / "quarantine" / expected
        assert verify_folder(moved)
        assert not bad.exists()
    assert run.checkpoints() == []


def test_what_a_killed_save_left_is_swept_away(run: RunFolder) -> None:
    checkpoint(run, 1)
    (run.path / ".checkpoint-2.abc").mkdir()
    (run.path / ".checkpoint-2.abc" / "model.safetensors").write_bytes(b"half")
    run.delete_leftovers()
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoint-1", "plan.json"]


# ---- finding runs ------------------------------------------------------------------------------


def test_a_run_by_name_folder_checkpoint_or_link(run: RunFolder) -> None:
    runs = run.path.parent
    final = checkpoint(run, 1)
    (final / "headway.json").write_text("{}")
    run.publish_checkpoint(final, SAVES, first=0)
    for name in ("notes", str(run.path), str(final), str(run.model)):
        assert find_run(name, runs).path.resolve() == run.path.resolve()
    assert find_run(str(run.path), Path("elsewhere")).path == run.path


def test_without_a_name_it_is_the_one_with_the_newest_event(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c")):
        run = made(tmp_path / name, planned())
        run.events.write_text("{}\n")
        os.utime(run.events, (1000 + number, 1000 + number))
    os.utime(tmp_path / "b" / "events.jsonl", (2000, 2000))
    (tmp_path / "no run").mkdir()
    assert find_run(None, tmp_path).path.name == "b"
    assert [run.path.name for run in list_runs(tmp_path)] == ["b", "c", "a"]


def test_a_run_that_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    made(tmp_path / "support", planned())
    made(tmp_path / "poems", planned())
    with pytest.raises(UsageError, match="no run named suport") as refused:
        find_run("suport", tmp_path)
    assert [remedy.do for remedy in refused.value.remedies] == ["support"]
    with pytest.raises(UsageError, match="no run named notes") as refused:
        find_run("notes", tmp_path / "empty")
    assert refused.value.have == f"no runs in {tmp_path / 'empty'}"
    with pytest.raises(UsageError, match="no runs in"):
        find_run(None, tmp_path / "empty")


def test_a_run_that_was_moved_away_is_no_run(run: RunFolder) -> None:
    shutil.rmtree(run.path)
    assert run.plan() is None
    assert not run.is_finished
    assert run.checkpoints() == []
