"""A disk that is full, or takes nothing: said at once or in time, and nothing is lost."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.small_disk import SmallDisk, small_disk

from headway.runs.folder import RunFolder

from .conftest import Headway, until

TEXT = "All work and no play makes Jack a dull boy. " * 20
TRAIN = ("train", "notes.txt", "--preset", "tiny", "--max-length", 16, "--batch-size", 1)


@pytest.fixture
def runs(headway: Headway) -> Iterator[SmallDisk]:
    """`runs` is a disk of its own, and commands see it."""
    (headway.here / "runs").mkdir()
    with small_disk(headway.here / "runs", "-t tmpfs -o size=32m none") as disk:
        headway.before = disk.enter
        yield disk


@pytest.mark.parametrize(
    "shares", [(0.5,), pytest.param((0, 0.25, 0.75, 0.99), marks=pytest.mark.chaos)], ids=len
)
def test_f35_a_disk_that_fills_up_in_training_ends_with_5_and_the_same_command_goes_on(
    headway: Headway, runs: SmallDisk, shares: tuple[float, ...]
) -> None:
    headway.write("notes.txt", TEXT)
    command = (*TRAIN, "--save-steps", 2)
    run = RunFolder(runs.outside / "notes")
    for share in shares:  # of a checkpoint, that may still be written
        stood_at = newest(run)
        runs.make_room()
        process = headway.start(*command)
        whole = first_save(process, run, stood_at)
        runs.leave_free(round(share * whole))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 5, out + err
        assert re.search("the disk is full|not enough disk", err), err
        assert "Traceback" not in out + err
        assert newest(run) > stood_at
    runs.make_room()
    told = headway(*command)
    assert told.code == 0, told.out + told.err
    assert "once each" in told.out


def newest(run: RunFolder) -> int:
    """The step of the newest checkpoint that verifies, 0 where none does."""
    checkpoint, _ = run.newest_verified()
    return checkpoint.global_step if checkpoint else 0


def first_save(process: "subprocess.Popen[str]", run: RunFolder, stood_at: int) -> int:
    """Wait until a run has saved something new; its bytes."""

    def saved() -> list[Path]:
        assert process.poll() is None, process.communicate()
        return [c.path for c in run.checkpoints() if c.global_step > stood_at]

    return sum(file.stat().st_size for file in until(saved)[0].iterdir())


READ_ONLY = {
    "a disk that is mounted read-only": ("runs", "--bind -o ro runs"),
    "a folder above that is mounted read-only": ("deep", "--bind -o ro deep"),
}


@pytest.mark.parametrize("where", READ_ONLY)
def test_f38_a_read_only_disk_is_refused_by_the_plan(headway: Headway, where: str) -> None:
    place, mount = READ_ONLY[where]
    headway.write("notes.txt", TEXT)
    (headway.here / place).mkdir()
    inside = headway.here / place
    with small_disk(inside, mount.replace(f" {place}", f" {inside}")) as disk:
        headway.before = disk.enter
        refused(headway, place if place == "runs" else f"{place}/er/runs", "Read-only file system")


@pytest.mark.parametrize("there", [True, False])
def test_f38_a_folder_without_the_right_to_write_is_refused_by_the_plan(
    headway: Headway, there: bool
) -> None:
    headway.write("notes.txt", TEXT)
    closed = headway.here / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere, until it gives up that right
        headway.before = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    refused(headway, "closed" if there else "closed/runs", "Permission denied")


def refused(headway: Headway, output_dir: str, why: str) -> None:
    """Before anything was trained or written, in words, with 5."""
    before = sorted(headway.here.rglob("*"))
    told = headway(*TRAIN, "--output-dir", output_dir)
    assert told.code == 5, told.out + told.err
    assert "cannot write" in told.err
    assert why in told.err
    assert "plan for" not in told.out
    assert sorted(headway.here.rglob("*")) == before


def test_a_disk_without_inodes_is_told_for_what_it_is(headway: Headway) -> None:
    headway.write("notes.txt", TEXT)
    (headway.here / "runs").mkdir()
    with small_disk(headway.here / "runs", "-t tmpfs -o size=32m,nr_inodes=1 none") as disk:
        headway.before = disk.enter
        told = headway(*TRAIN)
    assert told.code == 5
    assert told.err.startswith("no inodes left on the disk: ")
    assert "0 of 1 inodes free" in told.err
