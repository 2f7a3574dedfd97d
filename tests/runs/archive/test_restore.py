"""Run restore: the old run or the new one, and no way back that loses anything."""

import shutil
import threading
from pathlib import Path

import pytest
from tests.runs.archives import (
    back_up,
    content,
    go_back,
    in_own_process,
    killed_at,
    make_run,
    train_on,
)

from headway.base.errors import ComeBack, MachineError, UsageError
from headway.base.lock import RunLock
from headway.runs.archive import backup as backups
from headway.runs.archive import restore as restoring
from headway.runs.archive.backup import list_backups
from headway.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs" / "notes")


# ---- the way back ------------------------------------------------------------------------------


def test_a_run_comes_back_and_what_was_there_is_kept(run: RunFolder) -> None:
    before = content(run.path)
    made = back_up(run)
    train_on(run)
    later = content(run.path)
    done = go_back(run)
    assert content(run.path) == before
    assert done.backup.name == made.name
    assert done.kept is not None
    assert done.kept.made.type == "pre_restore"
    go_back(run, done.kept.name)
    assert content(run.path) == later
    assert go_back(run).backup.name == made.name  # never by itself to what a restore put aside
    assert content(run.path) == before


def test_a_run_that_is_gone_comes_back(run: RunFolder) -> None:
    before = content(run.path)
    back_up(run)
    shutil.rmtree(run.path)
    assert go_back(run).kept is None
    assert content(run.path) == before


def test_what_is_broken_is_kept_as_it_is(run: RunFolder) -> None:
    before = content(run.path)
    back_up(run, share=False)
    (run.path / "checkpoint-10" / "model.safetensors").write_bytes(b"torn")
    (run.path / "checkpoint-5" / "manifest.json").unlink()
    done = go_back(run)
    assert content(run.path) == before
    assert done.kept is not None
    torn = done.kept.path / "run" / "checkpoint-10" / "model.safetensors"
    assert torn.read_bytes() == b"torn"


def test_a_backup_that_does_not_verify_is_refused_and_nothing_moves(run: RunFolder) -> None:
    made = back_up(run, share=False)
    (made.path / "run" / "plan.json").write_text("[]")
    train_on(run)
    before = content(run.path)
    with pytest.raises(MachineError, match="is damaged") as refused:
        go_back(run)
    assert "run/plan.json" in refused.value.have
    assert content(run.path) == before
    assert len(list_backups(run.path)) == 1


def test_a_copy_that_does_not_read_back_does_not_become_the_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(run)
    train_on(run)
    before = content(run.path)

    def torn(source: Path, to: Path) -> None:
        to.write_bytes(source.read_bytes() + b"!" * (".restoring-" in str(to)))

    monkeypatch.setattr(backups.shutil, "copyfile", torn)
    with pytest.raises(MachineError, match="cannot write") as refused:
        go_back(run)
    assert "differs from the backup" in refused.value.have
    assert content(run.path) == before


def test_a_live_run_is_refused(run: RunFolder) -> None:
    back_up(run)
    train_on(run)
    before = content(run.path)
    with RunLock(run.lock), pytest.raises(ComeBack, match="is being trained") as refused:
        go_back(run)
    assert refused.value.remedies[0].do == f"headway stop {run.path}"
    assert content(run.path) == before


def test_a_name_is_found_by_its_beginning_if_that_is_enough(run: RunFolder) -> None:
    back_up(run, kind="one")
    back_up(run, kind="other")
    assert go_back(run, "20260102-030405-on").backup.made.type == "one"
    with pytest.raises(UsageError, match="matches 3 backups"):
        go_back(run, "2026")
    with pytest.raises(UsageError, match=r"has no backup \.\./\.\./x"):
        go_back(run, "../../x")


def test_without_a_backup_there_is_no_way_back(run: RunFolder) -> None:
    with pytest.raises(UsageError, match="no backup of notes"):
        go_back(run)
    assert not (run.path.parent / ".backups").exists()


def test_where_names_cannot_be_exchanged_it_is_done_in_two_steps(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(run.path)
    back_up(run)
    train_on(run)
    monkeypatch.setattr(restoring, "_exchange_names", lambda *_: False)
    go_back(run)
    assert content(run.path) == before
    assert sorted(p.name for p in run.path.parent.iterdir()) == [".backups", "notes"]


# ---- killed ------------------------------------------------------------------------------------


def restored_when_killed(here: Path) -> set[str]:
    """What a run is after a kill at each moment of a restore: old, new, or neither."""
    assert threading.active_count() == 1, "a fork of several threads may hang"
    seen: set[str] = set()
    for number in range(10_000):
        run = make_run(here / str(number) / "notes")
        new = content(run.path)
        back_up(run)
        train_on(run)
        old = content(run.path)
        killed = killed_at(number, lambda run=run: go_back(run))
        now = content(run.path) if (run.path / "model").is_symlink() else {}
        seen.add("old" if now == old else "new" if now == new else "neither")
        if "neither" not in seen and (number % 4 == 0 or not killed):
            go_back(run, "20260102-030405-manual")
            assert content(run.path) == new
            assert {p.name for p in run.path.parent.iterdir()} == {"notes", ".backups"}
        shutil.rmtree(run.path.parent)
        if not killed or "neither" in seen:
            break
    return seen


def delete_first(made: Path, run: Path) -> None:
    shutil.rmtree(run)
    made.rename(run)


def test_f02_killed_at_any_moment_a_restore_leaves_the_old_run_or_the_new(in_memory: Path) -> None:
    assert in_own_process("test_restore", "restored_when_killed", in_memory) == {"old", "new"}


def test_f02_mutant_a_restore_that_deletes_first_is_found(in_memory: Path) -> None:
    mutant = "tests.restoring._exchange = tests.delete_first"
    assert "neither" in in_own_process("test_restore", "restored_when_killed", in_memory, mutant)
