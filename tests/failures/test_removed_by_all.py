"""Several processes remove the same folder at once: none fails, and nothing is left of it."""

import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.base.files import delete_folder
from headway.runs.folder import RunFolder
from headway.supervise.live import runtime_folder

NUM_PROCESSES, NUM_FILES = 8, 300
Remove = Callable[[Path], None]


def dead_live_folder(place: Path) -> tuple[Path, Remove]:
    """What a killed supervisor leaves behind."""
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    made = place / "live" / f"{dead.pid}-1-abc"

    def remove(_: Path) -> None:
        runtime_folder._places = lambda: [(place, "live")]
        runtime_folder.remove_dead_folders()

    return made, remove


def checkpoint_begun(place: Path) -> tuple[Path, Remove]:
    """What a killed save leaves behind."""
    return place / ".checkpoint-8.abc", lambda _: RunFolder(place).delete_leftovers()


def checkpoint_too_old(place: Path) -> tuple[Path, Remove]:
    return place / "checkpoint-8", delete_folder


def minding(place: Path) -> tuple[Path, Remove]:
    """A mutant: it minds what another one was faster with."""

    def remove(folder: Path) -> None:
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        folder.rmdir()

    return place / "mutant", remove


def removed_by_all(folder: Path, remove: Remove) -> list[int]:
    """Fill a folder, remove it in all processes at once; their exit codes."""
    for number in range(NUM_FILES):
        file = folder / f"shard-{number % 7}" / f"{number}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch()
    for part in (folder.parent, folder):
        part.chmod(0o700)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(NUM_PROCESSES)

    def work() -> None:
        try:
            together.wait(60)
            remove(folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    processes = [context.Process(target=work) for _ in range(NUM_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode or 0 for process in processes]


@pytest.mark.parametrize("left", [dead_live_folder, checkpoint_begun, checkpoint_too_old])
def test_whoever_comes_first_all_go_on(
    tmp_path: Path, left: Callable[[Path], tuple[Path, Remove]]
) -> None:
    folder, remove = left(tmp_path)
    assert removed_by_all(folder, remove) == [0] * NUM_PROCESSES
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not folder.exists()


def test_one_that_minds_what_others_removed_is_noticed(tmp_path: Path) -> None:
    assert 1 in removed_by_all(*minding(tmp_path))
