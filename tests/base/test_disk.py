"""What a disk refuses, in four parts; whether there is room."""

from pathlib import Path

import pytest

from headway.base.disk import check_writable
from headway.base.errors import MachineError


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
