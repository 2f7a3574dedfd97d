"""Disk errors become refusals with a cause; a folder is checked before the run."""

import errno
import os
from pathlib import Path

import pytest

from headway.base.disk import check_writable, disk_errors, errors_from_rust
from headway.base.errors import Cause, MachineError


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


def test_the_error_number_of_a_rust_library_is_found_in_its_text() -> None:
    with pytest.raises(OSError, match="No space left") as raised, errors_from_rust():
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert raised.value.errno == errno.ENOSPC
    with pytest.raises(RuntimeError), errors_from_rust():
        raise RuntimeError("something else")
