"""Disk errors become refusals with a cause; a folder is checked before the run."""

import errno
import os
from pathlib import Path

import pytest

from headway.base.disk import check_writable, disk_errors, errors_from_rust
from headway.base.errors import Cause, MachineError
from headway.base.host.machine_errors import machine_refusal


def test_a_folder_to_write_to_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path / "runs" / "notes", need_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_too_little_disk_is_told_in_numbers(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="not enough disk") as refused:
        check_writable(tmp_path, need_bytes=10**18)
    assert refused.value.need == "1000000.0 TB"


def test_a_file_in_the_place_of_the_runs_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(MachineError, match="is not a folder"):
        check_writable(tmp_path / "runs")


def test_f38_a_folder_that_takes_no_file_is_refused_before_the_run() -> None:
    with pytest.raises(MachineError, match="cannot write"):
        check_writable(Path("/proc/headway"))


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, Cause.DISK_FULL),
        (errno.EDQUOT, Cause.DISK_FULL),
        (errno.EFBIG, Cause.FILE_TOO_LARGE),
        (errno.EACCES, Cause.NOT_WRITABLE),
        (errno.EROFS, Cause.NOT_WRITABLE),
        (errno.EIO, Cause.NOT_WRITABLE),
    ],
)
def test_an_error_of_the_system_becomes_a_refusal_with_its_cause(
    tmp_path: Path, number: int, cause: Cause
) -> None:
    with pytest.raises(MachineError) as refused, disk_errors(tmp_path / "plan.json"):
        raise OSError(number, os.strerror(number))
    assert refused.value.cause is cause
    assert "plan.json" in refused.value.what
    assert refused.value.remedies


def test_too_many_open_files_are_not_told_as_a_matter_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="open files") as error, disk_errors(tmp_path / "plan.json"):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    refusal = machine_refusal(error.value)
    assert refusal is not None
    assert refusal.cause is Cause.TOO_FEW_OPEN_FILES


def test_the_error_number_of_a_rust_library_is_found_in_its_text() -> None:
    with pytest.raises(OSError, match="No space left") as raised, errors_from_rust():
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError), errors_from_rust():
        raise RuntimeError("something else")


def full(place: Path, monkeypatch: pytest.MonkeyPatch, inodes: int) -> list[Path]:
    """Make the disk of a folder full, of bytes or of inodes; returns which disks were asked for."""
    asked: list[Path] = []

    def statvfs(folder: Path) -> os.statvfs_result:
        asked.append(Path(folder))
        free = 0 if inodes else 50
        here = folder == place
        values = (4096, 4096, 100, free, free, 500, inodes, inodes, 0, 255)
        return os.statvfs_result(values if here else (4096, 4096, 9**9, 9**9, 9**9, 9, 9, 9, 0, 9))

    monkeypatch.setattr(os, "statvfs", statvfs)
    return asked


def test_a_disk_without_inodes_is_not_told_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(tmp_path, monkeypatch, inodes=0)
    with pytest.raises(MachineError) as refused, disk_errors(tmp_path / "plan.json"):
        raise OSError(errno.ENOSPC, "no space")
    assert refused.value.cause is Cause.NO_INODES
    assert refused.value.have == (f"0 of 500 inodes free on the disk of {tmp_path}, 204.8 kB free")


def test_the_free_space_is_that_of_the_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "link").symlink_to(disk)
    full(disk, monkeypatch, inodes=7)
    for path, error in (
        (disk, OSError(errno.ENOSPC, "no space")),  # a mount point itself
        (disk / "new" / "plan.json", OSError(errno.ENOSPC, "no space")),
        (tmp_path / "link", OSError(errno.ENOSPC, "no space")),
        (tmp_path / "other", OSError(errno.ENOSPC, "no space", str(disk / "a"))),
        (tmp_path / "other", OSError(errno.ENOSPC, "no space", "/a", None, str(disk / "b"))),
    ):
        with pytest.raises(MachineError) as refused, disk_errors(path):
            raise error
        assert refused.value.cause is Cause.DISK_FULL
        assert refused.value.have == f"0 B free on the disk of {disk}"


def test_a_quota_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError) as refused, disk_errors(tmp_path / "plan.json"):
        raise OSError(errno.EDQUOT, "quota")
    assert refused.value.have.startswith("over the quota; ")
