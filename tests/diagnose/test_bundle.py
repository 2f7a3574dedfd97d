"""Bundles: an archive or a text, new, and without secrets."""

import tarfile
from pathlib import Path

import pytest

from headway.base.errors import MachineError, UsageError
from headway.diagnose.bundle import check_name, write_bundle

PARTS = {"report.txt": "it stands\nHF_TOKEN=planted\n", "run/plan.json": "{}\n"}


def test_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "stall.tar.gz"
    assert write_bundle(path, PARTS) == path.stat().st_size
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["stall/report.txt", "stall/run/plan.json"]
        report = archive.extractfile("stall/report.txt")
        assert report is not None
        assert report.read() == b"it stands\nHF_TOKEN=...\n"


def test_a_text(tmp_path: Path) -> None:
    path = tmp_path / "stall.txt"
    write_bundle(path, PARTS)
    text = path.read_text()
    assert "planted" not in text
    assert text.index("report.txt") < text.index("it stands") < text.index("run/plan.json")


@pytest.mark.parametrize("name", ["stall", "stall.zip", "stall.gz"])
def test_other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_name(tmp_path / name)
    check_name(tmp_path / refused.value.remedies[0].do.removeprefix("--bundle "))


@pytest.mark.parametrize("name", ["stall.tar.gz", "stall.txt"])
def test_no_file_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError) as refused:
        check_name(tmp_path / name)
    check_name(Path(refused.value.remedies[0].do.removeprefix("--bundle ")))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        write_bundle(tmp_path / "none" / "stall.txt", PARTS)
