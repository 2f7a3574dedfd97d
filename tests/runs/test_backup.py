"""Backups: whole, verified, sharing what never changes; and no way back that loses anything."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import ComeBack, MachineError, UsageError
from headway.base.files import point, verify_folder, write_folder
from headway.base.lock import RunLock
from headway.base.pulse import Pulse
from headway.runs import backup as backups
from headway.runs import restore as restoring
from headway.runs.backup import Backup, list_backups, make_backup, unsound
from headway.runs.folder import RunFolder, list_runs
from headway.runs.restore import Restored, restore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WEIGHTS = 50_000


def checkpoint(run: Path, step: int) -> None:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(bytes([step]) * WEIGHTS)
        (folder / "headway.json").write_text(f'{{"global_step": {step}}}')

    write_folder(run / f"checkpoint-{step}", fill)
    point(run / "model", run / f"checkpoint-{step}")


def make_run(folder: Path) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    (folder / "events.jsonl").write_text('{"event": "step_done"}\n')
    (folder / "receipt.json").write_text('{"outcome": "finished"}')
    (folder / "pulse.json").write_text("{}")
    checkpoint(folder, 5)
    checkpoint(folder, 10)
    return RunFolder(folder)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "runs" / "notes")


def content(folder: Path) -> dict[str, bytes]:
    """What is in a run, but for what is of the moment."""
    kept = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("run.lock", "pulse.json")
    }
    return kept | {"model": (folder / "model").readlink().name.encode()}


def back_up(run: RunFolder, **more: Any) -> Backup:
    return make_backup(run, NOW, Pulse(), **more)


def go_back(run: RunFolder, name: str | None = None, **more: Any) -> Restored:
    return restore(run.path, name, NOW, Pulse(), **more)


def train_on(run: RunFolder) -> None:
    """What another hour of training does to a run."""
    (run.path / "receipt.json").unlink()
    with run.events.open("a") as file:
        file.write('{"event": "step_done"}\n')
    checkpoint(run.path, 15)
    shutil.rmtree(run.path / "checkpoint-5")


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
    with RunLock(run.lock), pytest.raises(ComeBack, match="moved on"):
        back_up(run)
    assert list_backups(run.path) == []


def test_what_was_broken_already_is_kept_and_named(run: RunFolder) -> None:
    (run.path / "checkpoint-5" / "model.safetensors").write_bytes(b"torn")
    (run.path / "checkpoint-10" / "manifest.json").unlink()
    made = back_up(run)
    assert verify_folder(made.path) == []
    assert unsound(made) == ["checkpoint-10/manifest.json", "checkpoint-5/model.safetensors"]


@pytest.mark.parametrize("kind", ["", "../up", "Two Words", "x" * 41, ".hidden", "-x"])
def test_a_type_that_is_no_word_is_refused_before_anything_is_written(
    run: RunFolder, kind: str
) -> None:
    with pytest.raises(UsageError, match="not a word"):
        back_up(run, kind=kind)
    assert not (run.path.parent / ".backups").exists()


def test_two_at_once_are_refused(run: RunFolder) -> None:
    with backups.at_work(run.path), pytest.raises(ComeBack, match="another backup or restore"):
        back_up(run)


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
    with pytest.raises(MachineError, match="does not read back") as refused:
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
    assert "does not read back as it was written" in refused.value.have
    assert content(run.path) == before


def test_a_live_run_is_refused(run: RunFolder) -> None:
    back_up(run)
    train_on(run)
    before = content(run.path)
    with RunLock(run.lock), pytest.raises(ComeBack, match="is being trained right now") as refused:
        go_back(run)
    assert refused.value.remedies[0].do == f"headway stop {run.path}"
    assert content(run.path) == before


def test_a_name_is_found_by_its_beginning_if_that_is_enough(run: RunFolder) -> None:
    back_up(run, kind="one")
    back_up(run, kind="other")
    assert go_back(run, "20260102-030405-on").backup.made.type == "one"
    with pytest.raises(UsageError, match="the beginning of 3 backups"):
        go_back(run, "2026")
    with pytest.raises(UsageError, match=r"has no backup \.\./\.\./x"):
        go_back(run, "../../x")


def test_without_a_backup_there_is_no_way_back(run: RunFolder) -> None:
    with pytest.raises(UsageError, match="there is no backup of notes"):
        go_back(run)
    assert not (run.path.parent / ".backups").exists()


def test_where_names_cannot_be_exchanged_it_is_done_in_two_steps(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(run.path)
    back_up(run)
    train_on(run)
    monkeypatch.setattr(restoring, "_exchanged", lambda *_: False)
    go_back(run)
    assert content(run.path) == before
    assert sorted(p.name for p in run.path.parent.iterdir()) == [".backups", "notes"]


# ---- killed, and full disks --------------------------------------------------------------------


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where fsync costs nothing: a kill loses nothing that a process has written."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def killed_at(number: int, what: Callable[[], object]) -> bool:
    """Do it in a child that is killed at its so-manieth touch of the disk; whether it was."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    with contextlib.suppress(BaseException):
        left = [number]

        def touched(event: str, _: object) -> None:
            names = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.symlink")
            if event in (*names, "os.rmdir", "ctypes.dlsym", "os.chmod"):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(touched)
        what()
    os._exit(0)


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


def apart(campaign: str, here: Path, mutant: str = "") -> set[str]:
    """What a campaign saw in a process of its own: other tests leave threads, a fork loses them."""
    code = (
        "import sys; from pathlib import Path; from tests.trainer import test_backup as tests\n"
        f"{mutant}\nprint(*tests.{campaign}(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(here)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def delete_first(made: Path, run: Path) -> None:
    shutil.rmtree(run)
    made.rename(run)


def test_f02_killed_at_any_moment_a_restore_leaves_the_old_run_or_the_new(in_memory: Path) -> None:
    assert apart("restored_when_killed", in_memory) == {"old", "new"}


def test_f02_mutant_a_restore_that_deletes_first_is_found(in_memory: Path) -> None:
    mutant = "tests.restoring._swap = tests.delete_first"
    assert "neither" in apart("restored_when_killed", in_memory, mutant)


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
    assert apart("backed_up_when_killed", in_memory) == {"none", "whole"}


def test_f02_mutant_a_backup_written_where_it_will_be_is_found(in_memory: Path) -> None:
    mutant = "tests.backups.write_folder = tests.in_place"
    assert "half" in apart("backed_up_when_killed", in_memory, mutant)


FULL = """
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from headway.base.errors import MachineError
from headway.base.pulse import Pulse
from headway.runs.backup import list_backups, make_backup
from headway.runs.folder import RunFolder
from headway.runs.restore import restore

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
