"""F35: a disk that is full at any byte of a save; the checkpoint before is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.small_disk import SmallDisk, small_disk

from headway.base import files
from headway.base.errors import MachineError
from headway.base.files import verify_folder, write_folder, write_whole
from headway.runs.folder import RunFolder

LEVELS = 100
WEIGHTS = 700_000  # bytes of each of three files
MORE = 2_300_000  # than one checkpoint takes


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", "-t tmpfs -o size=8m none") as small:
        yield small


def save(run: RunFolder, step: int) -> Path:
    def fill(folder: Path) -> None:
        for name in ("model", "moments", "squares"):
            (folder / f"{name}.safetensors").write_bytes(bytes([step]) * WEIGHTS)

    final = run.path / f"checkpoint-{step}"
    write_folder(final, fill)
    return final


def newest(run: RunFolder) -> int:
    found, problems = run.newest_verified()
    assert found is not None
    assert problems == []
    return found.global_step


def fill_up(disk: SmallDisk, levels: int) -> tuple[int, int]:
    """Save with less and less room; how often there was too little, and how often enough."""
    run = RunFolder(disk.outside)
    save(run, 1)
    too_little = enough = 0
    for level in range(levels):
        disk.leave_free(MORE * level // levels)
        try:
            second = save(run, 2)
        except MachineError as refused:
            too_little += 1
            said = str(refused)
            assert "the disk is full" in said
            assert newest(run) == 1
            assert sorted(p.name for p in run.path.iterdir()) == ["ballast", "checkpoint-1"]
            disk.make_room()
            second = save(run, 2)  # there is nothing to clear away before going on
        else:
            enough += 1
        assert sorted(p.stat().st_size for p in second.glob("*.safetensors")) == [WEIGHTS] * 3
        assert newest(run) == 2
        assert verify_folder(run.path / "checkpoint-1") == []
        for path in second.iterdir():
            path.unlink()
        second.rmdir()
    return too_little, enough


def test_f35_full_at_any_of_a_hundred_levels_loses_nothing(disk: SmallDisk) -> None:
    too_little, enough = fill_up(disk, LEVELS)
    assert too_little + enough == LEVELS
    assert too_little > 80
    assert enough > 3


def test_f35_a_save_that_makes_room_by_deleting_the_old_one_would_be_found(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_room(folder: Path, *_: object) -> None:
        for old in folder.glob("checkpoint-*"):
            files.delete_folder(old)

    monkeypatch.setattr(files, "make_folder", make_room)
    with pytest.raises(AssertionError):
        fill_up(disk, 3)


def test_f35_a_full_disk_leaves_a_small_file_as_it_was(disk: SmallDisk) -> None:
    path = disk.outside / "plan.json"
    write_whole(path, "old" * 1000)
    disk.leave_free(0)
    with pytest.raises(MachineError, match="the disk is full"):
        write_whole(path, "new" * 1000)
    assert path.read_text() == "old" * 1000
    assert sorted(p.name for p in disk.outside.iterdir()) == ["ballast", "plan.json"]
