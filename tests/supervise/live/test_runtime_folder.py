"""One private folder per user: nothing of others is used, and nothing of others is removed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.base.errors import Cause, MachineError
from headway.base.process_id import ProcessId
from headway.supervise.live import runtime_folder as module
from headway.supervise.live.runtime_folder import (
    LiveFolder,
    live_folders,
    remove_dead_folders,
    runtime_folder,
    runtime_folders,
)

HOLD = """
import sys
from pathlib import Path
from headway.supervise.live import runtime_folder
runtime_folder._places = lambda: [(Path(sys.argv[1]), "live")]
print(runtime_folder.LiveFolder().path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_places", lambda: [(tmp_path, "live")])
    return tmp_path


@pytest.fixture
def other(place: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process with a live folder."""
    command = [sys.executable, "-c", HOLD, str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline()
        yield process
        process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_it_is_private_and_found_again(place: Path) -> None:
    folder = runtime_folder()
    assert (folder, mode(folder)) == (place / "live", 0o700)
    assert runtime_folder() == folder
    assert runtime_folders() == [folder]


def link(name: Path) -> None:
    (name.parent / "elsewhere").mkdir(mode=0o700)
    name.symlink_to(name.parent / "elsewhere")


def dangling(name: Path) -> None:
    name.symlink_to(name.parent / "nothing")


def writable(name: Path) -> None:
    name.mkdir()
    name.chmod(0o777)


def writable_by_group(name: Path) -> None:
    name.mkdir()
    name.chmod(0o770)


def of_another_user(name: Path) -> None:
    if os.getuid():
        pytest.skip("only root can make a folder of another user")
    name.mkdir(mode=0o700)
    os.chown(name, 65534, 65534)


PLANTED = [link, dangling, writable, writable_by_group, of_another_user, Path.touch, os.mkfifo]


@pytest.mark.parametrize("plant", PLANTED)
def test_a_name_that_somebody_took_is_left_alone(
    place: Path, plant: Callable[[Path], object]
) -> None:
    plant(place / "live")
    before = os.lstat(place / "live")
    there = {path.name for path in place.iterdir()}
    folder = runtime_folder()
    assert folder.name.startswith("live-")
    assert len(folder.name) > 15, "it cannot be guessed"
    assert mode(folder) == 0o700
    assert runtime_folder() == folder, "it is found again"
    assert runtime_folders() == [folder]
    with LiveFolder() as live:
        assert live.parent == folder
    remove_dead_folders()
    assert os.lstat(place / "live") == before
    assert {path.name for path in place.iterdir()} == there | {folder.name}


@pytest.mark.parametrize("plant", PLANTED)
def test_other_names_that_somebody_took_are_no_runtime_folders(
    place: Path, plant: Callable[[Path], object]
) -> None:
    for name in ("live", "live-0", "live-zz"):
        if plant is not link or name == "live":
            plant(place / name)
    folder = runtime_folder()
    assert runtime_folders() == [folder]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("plant", [None, link, dangling, writable, Path.mkdir, os.mkfifo])
def test_a_user_without_rights_has_a_folder_of_their_own(
    plant: Callable[[Path], object] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        place.chmod(0o1777)
        monkeypatch.setattr(module, "_places", lambda: [(place, "live")])
        root = runtime_folder()
        root.rename(place / "live-of-root")
        if plant:
            plant(place / "live")
        before = {path: path.lstat() for path in place.iterdir()}
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                with LiveFolder() as live:
                    assert live.parent.stat().st_uid == 65534
                    assert runtime_folders() == [live.parent]
                    assert live_folders() == [(live, ProcessId.mine())]
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert {path: path.lstat() for path in before} == before
    finally:
        shutil.rmtree(place)


def test_a_folder_of_the_first_release_is_made_private(place: Path) -> None:
    (place / "live").mkdir(mode=0o755)
    assert runtime_folder() == place / "live"
    assert mode(place / "live") == 0o700


# ---- places --------------------------------------------------------------------------------------


def test_a_place_where_others_can_rename_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, sticky = place / "open" / "below", place / "sticky"
    below.mkdir(parents=True, mode=0o700)
    (place / "open").chmod(0o777)
    sticky.mkdir()
    sticky.chmod(0o1777)
    places = [(place / "open", "live"), (below, "live"), (place / "none", "live")]
    monkeypatch.setattr(module, "_places", lambda: [*places, (sticky, "live")])
    assert runtime_folder() == sticky / "live"
    monkeypatch.setattr(module, "_places", lambda: places)
    with pytest.raises(MachineError) as refused:
        runtime_folder()
    assert refused.value.cause is Cause.NOT_WRITABLE
    assert runtime_folders() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
def test_a_place_of_another_user_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = place / "theirs"
    theirs.mkdir(mode=0o1777)
    os.chown(theirs, 65534, 65534)
    monkeypatch.setattr(module, "_places", lambda: [(theirs, "live"), (place, "live")])
    assert runtime_folder() == place / "live"


def test_xdg_runtime_dir_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "headway"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert [name for _, name in module._places()][:2] == [f"headway-{os.getuid()}"] * 2


def test_without_a_home_there_are_other_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.undo()
    monkeypatch.setattr(module, "cache_folder", fail)
    assert Path("/dev/shm") in [place for place, _ in module._places()]


# ---- live folders --------------------------------------------------------------------------------


def test_a_live_folder_is_known_by_its_process() -> None:
    with LiveFolder() as folder:
        assert live_folders() == [(folder, ProcessId.mine())]
        assert mode(folder) == 0o700
    assert not folder.exists()
    assert live_folders() == []


def test_each_call_has_a_live_folder_of_its_own() -> None:
    first, second = LiveFolder(), LiveFolder()
    assert first.path != second.path
    first.remove()
    first.remove()
    assert second.path.exists()
    second.remove()


def test_another_process_is_live_until_it_dies(other: "subprocess.Popen[str]") -> None:
    ((folder, owner),) = live_folders()
    assert owner == ProcessId.of(other.pid)
    remove_dead_folders()
    assert folder.exists()
    other.kill()
    other.wait()
    assert live_folders() == []
    with LiveFolder():
        assert not folder.exists()


def test_a_folder_whose_process_has_another_start_time_is_dead(
    other: "subprocess.Popen[str]",
) -> None:
    folder = runtime_folder() / f"{other.pid}-1-x"
    folder.mkdir()
    assert folder not in [path for path, _ in live_folders()]
    remove_dead_folders()
    assert not folder.exists()
    assert len(live_folders()) == 1


def test_a_folder_that_holds_its_lock_is_not_removed(place: Path) -> None:
    """In a container that shares this folder, the same process has another number."""
    with LiveFolder() as folder:
        renamed = folder.with_name("999999999-1-x")
        folder.rename(renamed)
        remove_dead_folders()
        assert renamed.exists()
        renamed.rename(folder)


def test_only_live_folders_are_removed_and_no_link_is_followed(place: Path) -> None:
    precious = place / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder = runtime_folder()
    (folder / "notes").mkdir()
    (folder / "4242").mkdir()
    (folder / "999999999-1-link").symlink_to(precious)
    dead = folder / "999999999-1-dead"
    dead.mkdir()
    (dead / "inside").symlink_to(precious)
    remove_dead_folders()
    assert not dead.exists()
    assert (precious / "file").exists()
    assert (folder / "notes").exists()
    assert (folder / "4242").exists()
