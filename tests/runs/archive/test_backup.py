"""Run backup: complete, verified, and sharing files that never change."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runs.archives import (
    WEIGHTS,
    back_up,
    content,
    in_own_process,
    killed_at,
    make_run,
    train_on,
)

from headway.base.errors import ComeBack, UsageError
from headway.base.files import verify_folder
from headway.base.lock import RunLock
from headway.runs.archive import backup as backups
from headway.runs.archive.backup import damaged_files, list_backups
from headway.runs.folder import RunFolder, list_runs


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs" / "notes")


# ---- a backup ----------------------------------------------------------------------------------


def test_a_backup_is_the_run_as_it_was_and_verifies(run: RunFolder) -> None:
    before = content(run.path)
    made = back_up(run, kind="pre_recovery", note="before I try")
    assert made.name == "20260102-030405-pre_recovery"
    assert (made.made.type, made.made.note, made.made.at, made.made.model) == (
        "pre_recovery",
        "before I try",
        "2026-01-02T03:04:05+00:00",
        "checkpoint-10",
    )
    assert verify_folder(made.path) == []
    assert content(run.path) == before
    assert {n: b for n, b in before.items() if n != "model"} == {
        str(p.relative_to(made.path / "run")): p.read_bytes()
        for p in (made.path / "run").rglob("*")
        if p.is_file()
    }
    hashes = json.loads((made.path / "manifest.json").read_text())["files"]
    assert hashes["run/plan.json"]["bytes"] == 2
    assert "run/checkpoint-10/model.safetensors" in hashes


def test_checkpoints_are_shared_and_everything_else_is_copied(run: RunFolder) -> None:
    made = back_up(run)
    weights = "checkpoint-10/model.safetensors"
    assert (made.path / "run" / weights).samefile(run.path / weights)
    for name in ("plan.json", "events.jsonl", "receipt.json"):
        assert not (made.path / "run" / name).samefile(run.path / name)
    train_on(run)
    assert (made.path / "run" / "events.jsonl").read_text().count("\n") == 1
    assert verify_folder(made.path) == []


def test_a_copy_shares_nothing(run: RunFolder) -> None:
    made = back_up(run, share=False)
    assert not any(
        (made.path / "run" / p.relative_to(run.path)).samefile(p)
        for p in run.path.glob("checkpoint-*/*")
    )
    assert made.own_bytes == made.bytes > 2 * WEIGHTS


def test_bytes_that_are_shared_count_once(run: RunFolder) -> None:
    first, second = back_up(run), back_up(run)
    assert (first.name, second.name) == (
        "20260102-030405-manual",
        "20260102-030405-manual-2",
    )
    assert first.bytes > 2 * WEIGHTS
    assert first.own_bytes < 5000
    shutil.rmtree(run.path)
    of_first, of_second = list_backups(run.path)
    assert of_first.own_bytes == of_first.bytes  # nobody else has them now
    assert of_second.own_bytes < 5000


def test_backups_are_no_runs(run: RunFolder) -> None:
    back_up(run)
    assert [r.path for r in list_runs(run.path.parent)] == [run.path]


def test_of_a_live_run_the_newest_good_checkpoint_is_taken(run: RunFolder) -> None:
    with RunLock(run.lock):
        made = back_up(run)
    assert made.made.live
    assert [p.name for p in (made.path / "run").glob("checkpoint-*")] == ["checkpoint-10"]
    assert (made.path / "run" / "plan.json").exists()


def test_a_run_that_moves_on_meanwhile_is_asked_for_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pruned(*arguments: Any, **options: Any) -> None:
        shutil.rmtree(run.path / "checkpoint-10")
        copy(*arguments, **options)

    copy = backups.copy_files
    monkeypatch.setattr(backups, "copy_files", pruned)
    with RunLock(run.lock), pytest.raises(ComeBack, match="changed while it was being copied"):
        back_up(run)
    assert list_backups(run.path) == []


def test_what_was_broken_already_is_kept_and_named(run: RunFolder) -> None:
    (run.path / "checkpoint-5" / "model.safetensors").write_bytes(b"torn")
    (run.path / "checkpoint-10" / "manifest.json").unlink()
    made = back_up(run)
    assert verify_folder(made.path) == []
    assert damaged_files(made) == ["checkpoint-10/manifest.json", "checkpoint-5/model.safetensors"]


@pytest.mark.parametrize("kind", ["", "../up", "Two Words", "x" * 41, ".hidden", "-x"])
def test_a_type_that_is_no_word_is_refused_before_anything_is_written(
    run: RunFolder, kind: str
) -> None:
    with pytest.raises(UsageError, match="cannot be part of a folder name"):
        back_up(run, kind=kind)
    assert not (run.path.parent / ".backups").exists()


def test_two_at_once_are_refused(run: RunFolder) -> None:
    with backups.backup_lock(run.path), pytest.raises(ComeBack, match="already being backed up"):
        back_up(run)


# ---- killed, and full disks --------------------------------------------------------------------


def backed_up_when_killed(here: Path) -> set[str]:
    """What there is after a kill at each moment of a backup: none, whole, or half of one."""
    seen: set[str] = set()
    for number in range(10_000):
        run = make_run(here / str(number) / "notes")
        killed = killed_at(number, lambda run=run: back_up(run))
        home = run.path.parent / ".backups" / "notes"
        found = list(home.glob("[0-9]*"))
        sound = [path for path in found if verify_folder(path) == []]
        seen.add("half" if found != sound else "whole" if found else "none")
        back_up(run, kind="again")
        assert {p.name for p in home.iterdir() if p.name.startswith(".")} == {".lock"}
        shutil.rmtree(run.path.parent)
        if not killed or "half" in seen:
            break
    return seen


def in_place(final: Path, fill: Callable[[Path], None]) -> None:
    final.mkdir()
    fill(final)


def test_f02_killed_at_any_moment_a_backup_is_whole_or_not_there(in_memory: Path) -> None:
    assert in_own_process("test_backup", "backed_up_when_killed", in_memory) == {"none", "whole"}


def test_f02_mutant_a_backup_written_where_it_will_be_is_found(in_memory: Path) -> None:
    mutant = "tests.backups.write_folder = tests.in_place"
    assert "half" in in_own_process("test_backup", "backed_up_when_killed", in_memory, mutant)


FULL = """
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from headway.base.errors import MachineError
from headway.base.pulse import Pulse
from headway.runs.archive.backup import list_backups, make_backup
from headway.runs.folder import RunFolder
from headway.runs.archive.restore import restore

run, verb = Path(sys.argv[1]), sys.argv[2]
filler = os.open(run.parent / "filler", os.O_WRONLY | os.O_CREAT)
written = 0
try:
    while True:
        written += os.write(filler, bytes(4096))
except OSError:
    os.ftruncate(filler, max(0, written - int(sys.argv[3])))
try:
    now = datetime.now(UTC)
    if verb == "backup":
        make_backup(RunFolder(run), now, Pulse(), share=False)
    else:
        restore(run, None, now, Pulse(), share=False)
    print("done")
except MachineError as error:
    print(error)
    print("left", sorted(p.name for p in run.parent.iterdir()), len(list_backups(run)))
"""


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_f35_a_disk_that_fills_up_leaves_nothing_half_there(tmp_path: Path, verb: str) -> None:
    """On a real file system of 2 MB, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    make_run(tmp_path / "runs" / "notes")
    back_up(RunFolder(tmp_path / "runs" / "notes"), share=False)
    (tmp_path / "full.py").write_text(FULL)
    outcomes: set[str] = set()
    for free in (20_000, 80_000, 130_000, 400_000):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=2m none disk"
             " && cp -a runs/notes runs/.backups disk/"
             f" && {sys.executable} full.py disk/notes {verb} {free}"
             " && cat disk/notes/events.jsonl"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "step_done" in done.stdout
        if done.stdout.startswith("done"):
            outcomes.add("done")
            continue
        outcomes.add("full")
        assert "the disk is full" in done.stdout
        assert "try   headway backup --list" in done.stdout
        assert "left ['.backups', 'filler', 'notes'] 1" in done.stdout
    assert outcomes == {"done", "full"}
