"""F44, F35 on ext4: a real file system whose image is taken at any instant of a run that saves."""

import json
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.saver import weights
from tests.failures.small_disk import SmallDisk, small_disk
from tests.failures.test_full_disk import fill_up
from tests.failures.traced import saver, told

from headway.base import files
from headway.runs.folder import RunFolder

pytestmark = pytest.mark.chaos
IMAGES = 100
MB = 1_000_000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty ext4 in a file."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(16 * MB)
    told("mkfs.ext4", "-q", "-J", "size=4", "-m", "0", path)  # nothing kept back for root
    return path


@pytest.fixture
def disk(tmp_path: Path, image: Path) -> Iterator[SmallDisk]:
    (tmp_path / "mounted").mkdir()
    with small_disk(tmp_path / "mounted", f"-o loop,commit=1 {image}") as mounted:
        yield mounted


def instant(image: Path) -> bytes:
    """The image as it was at one instant: read twice, until nothing changed in between."""
    before = image.read_bytes()
    while (now := image.read_bytes()) != before:
        before = now
    return now


def after_the_cut(image: Path, place: Path) -> int:
    """What a machine finds that starts again from an image: the newest step that verifies."""
    checked = subprocess.run(["e2fsck", "-fy", image], capture_output=True, text=True)
    assert checked.returncode in (0, 1), checked.stdout  # clean, or put right from the journal
    with small_disk(place, f"-o loop {image}") as again:
        run = RunFolder(again.outside / "run")
        run.delete_leftovers()
        newest, problems = run.newest_verified()
        assert problems == []
        if newest is None:
            return 0
        assert (newest.path / "model.safetensors").read_bytes() == weights(newest.global_step)
        return newest.global_step


def cuts(image: Path, run: Path, num: int, *mutant: str) -> list[tuple[int, bytes]]:
    """While a run saves on and on: the newest step it promised, and the image an instant later."""
    change = [json.dumps(mutant)] if mutant else []
    writer = subprocess.Popen(saver("go_on", run, *change), stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    chance = random.Random(44)
    promised = [0]

    def listen() -> None:
        for line in writer.stdout or ():
            promised[0] = int(line.split()[1])

    listener = threading.Thread(target=listen)
    listener.start()
    found: list[tuple[int, bytes]] = []
    try:
        while len(found) < num:
            time.sleep(chance.uniform(0, 0.2))
            found.append((promised[0], instant(image)))
    finally:
        writer.kill()
        writer.wait()
        listener.join()
        writer.stdout.close()
    assert promised[0] > num  # it saved all the while
    return found


def look_at(found: list[tuple[int, bytes]], place: Path) -> None:
    """Start again from every image; what was promised must be there."""
    (place / "again").mkdir()
    for step, content in found:
        (place / "copy.img").write_bytes(content)
        assert after_the_cut(place / "copy.img", place / "again") >= step


def test_f44_whatever_instant_the_power_goes_what_was_promised_is_there(
    tmp_path: Path, image: Path, disk: SmallDisk
) -> None:
    (disk.outside / "run").mkdir()
    look_at(cuts(image, disk.outside / "run", IMAGES), tmp_path)


def test_f44_a_run_that_never_syncs_would_be_found(
    tmp_path: Path, image: Path, disk: SmallDisk
) -> None:
    (disk.outside / "run").mkdir()
    mutant = (files.__name__, "os.fsync(", "id(")
    with pytest.raises(AssertionError):
        look_at(cuts(image, disk.outside / "run", 20, *mutant), tmp_path)


def test_f35_ext4_full_at_any_of_a_hundred_levels_loses_nothing(disk: SmallDisk) -> None:
    shutil.rmtree(disk.outside / "lost+found")
    too_little, enough = fill_up(disk, 100)
    assert too_little > 80
    assert enough > 3
