"""Deletion: only what Headway made, never what is used, gone for good or not at all."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runs.archives import WEIGHTS, back_up, make_run
from tests.ui.fixtures import conversations_plan

from headway.base.errors import Cause, ComeBack, Problems, UsageError
from headway.base.lock import RunLock
from headway.runs.archive import deletion
from headway.runs.archive.deletion import check_deletions, delete_run, foreign_files
from headway.runs.folder import RunFolder
from headway.runs.plan import LoraPlan, Parent, Plan
from headway.runs.watched.watched_run import WatchedRun


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    made(tmp_path / "runs", "notes")
    return tmp_path / "runs"


def made(runs: Path, name: str, plan: Plan | None = None) -> RunFolder:
    """A finished run with two checkpoints."""
    folder = make_run(runs / name)
    (plan or conversations_plan()).save(folder.path)
    return folder


def started_from(path: Path, **model: Any) -> Plan:
    """A plan of a run that continues from a checkpoint."""
    plan = conversations_plan()
    parent = Parent(str(path.parent), str(path), 10, "ab" * 32, keeps_optimizer=True)
    return replace(plan, model=replace(plan.model, path=str(path), parent=parent, **model))


def refused(*runs: str, where: Path) -> UsageError:
    with pytest.raises((UsageError, Problems)) as caught:
        check_deletions(runs, where)
    return caught.value  # type: ignore[return-value]


# ---- what is deleted -----------------------------------------------------------------------------


def test_a_run_is_gone_and_nothing_else(runs: Path) -> None:
    made(runs, "other")
    before = sorted(str(path) for path in (runs / "other").rglob("*"))
    (found,) = check_deletions(["notes"], runs)
    assert (found.run, found.checkpoints, found.backups, found.descendants) == ("notes", 2, (), ())
    assert found.bytes_freed > 2 * WEIGHTS
    assert found.bytes_shared == 0
    delete_run(found)
    assert sorted(path.name for path in runs.iterdir()) == ["other"]
    assert sorted(str(path) for path in (runs / "other").rglob("*")) == before


def test_a_run_of_another_program_is_gone_with_all_that_guard_wrote(runs: Path) -> None:
    other = runs / "train"
    other.mkdir()
    WatchedRun("train", "guard", "python train.py").save(other)
    for name in ("guard.json", "output.log", "events.jsonl", "run.lock", "stall-1.txt"):
        (other / name).write_text("")
    (found,) = check_deletions(["train"], runs)
    delete_run(found)
    assert not other.exists()


@pytest.mark.parametrize("spelled", ["notes", "notes/", "./notes"])
def test_a_run_is_named_or_a_folder(
    runs: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    assert check_deletions([spelled], runs)[0].run == "notes"
    monkeypatch.chdir(runs / "notes")
    (found,) = check_deletions([".", "../notes", "notes"], Path(".."))
    assert found.folder == str(runs / "notes")


def test_backups_are_kept_and_what_they_share_is_not_counted_as_freed(runs: Path) -> None:
    backup = back_up(RunFolder(runs / "notes"))
    (found,) = check_deletions(["notes"], runs)
    assert found.backups == (backup.name,)
    assert found.bytes_shared > 2 * WEIGHTS > found.bytes_freed
    free = {path: path.stat().st_nlink for path in backup.path.rglob("*.safetensors")}
    delete_run(found)
    assert sorted(path.name for path in runs.iterdir()) == [".backups"]
    assert {path: path.stat().st_nlink + 1 for path in free} == free


def test_no_link_is_followed(runs: Path, tmp_path: Path) -> None:
    """`model` is the one link that a run has, wherever it leads."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (runs / "notes" / "model").unlink()
    (runs / "notes" / "model").symlink_to(precious)
    delete_run(check_deletions(["notes"], runs)[0])
    assert (precious / "file").read_text() == "mine"


# ---- what is not ---------------------------------------------------------------------------------


def test_a_live_run_is_refused(runs: Path) -> None:
    with RunLock(runs / "notes" / "run.lock"):
        error = refused("notes", where=runs)
        assert (error.what, error.cause) == ("notes is running", Cause.RUN_ACTIVE)
        assert error.remedies[0].do == f"headway stop {runs / 'notes'}"
    (found,) = check_deletions(["notes"], runs)
    with RunLock(runs / "notes" / "run.lock"), pytest.raises(ComeBack):
        delete_run(found)  # started since it was checked
    assert (runs / "notes" / "plan.json").exists()


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    "name",
    [
        *("my-notes.txt", "export/model.gguf", ".git/config", ".env", "checkpoint-best/x.json"),
        *("checkpoint-5/merged.gguf", "checkpoint-5/inner/x.json", "quarantine/mine.txt"),
        *("plan.json.bak", "quarantine/checkpoint-5/notes.md"),
    ],
)
def test_what_headway_did_not_make_is_named_and_kept(runs: Path, name: str) -> None:
    touch(runs / "notes" / name)
    error = refused("notes", where=runs)
    assert error.what == "notes contains files that Headway did not make"
    assert error.have in (name, name.partition("/")[0])
    first, *words = error.remedies[0].do.split()
    assert first == "mv"
    shutil.move(*words)
    assert foreign_files(runs / "notes") == []


@pytest.mark.parametrize("name", ["elsewhere", "checkpoint-15", "receipt.json", "quarantine"])
def test_a_link_is_not_ours(runs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "big").mkdir()
    place = runs / "notes" / name
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "big")
    assert refused("notes", where=runs).have == name


def test_a_folder_in_place_of_the_link_is_not_ours(runs: Path) -> None:
    (runs / "notes" / "model").unlink()
    touch(runs / "notes" / "model" / "config.json")
    assert refused("notes", where=runs).have == "model"


def test_all_that_a_run_leaves_is_ours(runs: Path) -> None:
    for name in (
        *("run.yaml", "settled.json", "losses.csv", "samples.jsonl", "rejected.jsonl", "save"),
        *(".checkpoint-9.x7/model.safetensors", ".plan.json.1-2.tmp", "traceback.txt", "run.lock"),
        *("quarantine/checkpoint-5-2/model.safetensors", ".DS_Store"),
    ):
        touch(runs / "notes" / name)
    assert foreign_files(runs / "notes") == []


def test_a_link_to_a_run_is_refused_with_how_to_remove_it(runs: Path) -> None:
    (runs / "short").symlink_to(runs / "notes")
    error = refused("short", where=runs)
    assert error.what == f"{runs / 'short'} is a link"
    assert error.remedies[0].do == f"rm {runs / 'short'}"


@pytest.mark.parametrize("part", ["notes/checkpoint-5", "notes/model"])
def test_a_part_of_a_run_does_not_stand_for_it(runs: Path, part: str) -> None:
    error = refused(part, where=runs)
    assert error.what == f"{part} is not a run"
    verb = "headway runs --delete"
    assert error.remedies[0].do == f"{verb} {runs / 'notes'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(runs.parent)
        assert refused(part, where=Path("runs")).remedies[0].do == f"{verb} notes"


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"schema": "plans/1"}'])
def test_a_plan_that_is_none_is_not_ours(runs: Path, content: str) -> None:
    (runs / "notes" / "plan.json").write_text(content)
    assert refused("notes", where=runs).cause is Cause.RUN_UNREADABLE


# ---- what depends on it --------------------------------------------------------------------------

LORA = LoraPlan(2, 4.0, 0.0, ("all-linear",))


@pytest.mark.parametrize(
    ("model", "outcome", "needs"),
    [
        ({"lora": None}, "finished", False),
        ({"lora": None}, "interrupted", True),
        ({"lora": None}, "", True),
        ({"lora": LORA}, "finished", True),
    ],
)
def test_a_run_that_another_needs_is_refused_without_it(
    runs: Path, model: dict[str, Any], outcome: str, needs: bool
) -> None:
    child = made(runs, "child", started_from(runs / "notes" / "checkpoint-10", **model))
    (child.path / "receipt.json").write_text(json.dumps({"outcome": outcome}))
    if not needs:
        assert check_deletions(["notes"], runs)[0].descendants == ("child",)
        return
    error = refused("notes", where=runs)
    assert error.what == "notes is needed by child"
    assert error.remedies[0].do == f"headway runs --delete {runs / 'notes'} {runs / 'child'}"
    assert len(check_deletions(["notes", "child"], runs)) == 2
    assert check_deletions(["child"], runs)[0].run == "child"


def test_adapters_need_their_base_whatever_their_plan_says(runs: Path) -> None:
    """A LoRA run that continues another one: its base is the first one's."""
    child = made(runs, "child")
    config = {"base_model_name_or_path": str(runs / "notes" / "checkpoint-10")}
    (child.path / "checkpoint-10" / "adapter_config.json").write_text(json.dumps(config))
    assert refused("notes", where=runs).what == "notes is needed by child"


def test_all_problems_are_told_and_nothing_is_changed(runs: Path) -> None:
    touch(runs / "notes" / "mine")
    error = refused("notes", "nots", where=runs)
    assert isinstance(error, Problems)
    assert len(error.problems) == 2
    assert (runs / "notes" / "mine").exists()


# ---- cut short -----------------------------------------------------------------------------------


def test_a_deletion_that_is_cut_short_is_finished_by_the_next(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(runs, "other")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deletion.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_run(check_deletions(["notes"], runs)[0])
    assert not (runs / "notes").exists()
    assert (runs / ".deleting" / "notes" / "plan.json").exists()
    made(runs, "notes")
    delete_run(check_deletions(["other"], runs)[0])
    assert sorted(path.name for path in runs.iterdir()) == ["notes"]


def test_the_rename_is_on_the_disk_before_a_file_goes(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    sync, remove = deletion.sync_folder, shutil.rmtree
    monkeypatch.setattr(deletion, "sync_folder", lambda p: (done.append(("sync", p.name)), sync(p)))
    monkeypatch.setattr(
        deletion.shutil, "rmtree", lambda p: (done.append(("delete", p.name)), remove(p))
    )
    delete_run(check_deletions(["notes"], runs)[0])
    assert done == [
        ("sync", ".deleting"), ("sync", "runs"), ("delete", "notes"), ("sync", "runs")
    ]  # fmt: skip


def test_a_link_in_place_of_the_bin_is_not_followed(runs: Path, tmp_path: Path) -> None:
    """Somebody else's folder is not emptied."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (runs / ".deleting").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="is a link"):
        delete_run(check_deletions(["notes"], runs)[0])
    assert (tmp_path / "precious" / "file").exists()
    assert (runs / "notes" / "plan.json").exists()
    assert os.listdir(tmp_path / "precious") == ["file"]  # noqa: PTH208 - by name
