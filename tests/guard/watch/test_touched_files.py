"""Files that a command wrote or changed."""

import os
import time
from pathlib import Path

import pytest

from headway.guard.watch.touched_files import TouchedFiles, output_folders


def test_new_and_changed_files_are_found_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "changed"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1e9, 1e9))
    time.sleep(0.05)
    files = TouchedFiles((tmp_path,))
    (tmp_path / "changed").write_text("xy")
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-5" / "model.safetensors").write_bytes(b"1234")
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "guard.json").write_text("{}")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_text("x")
    monkeypatch.chdir(tmp_path)
    found = {one.path.name: one for one in files.find(Path("runs", "train"))}
    assert found.keys() == {"changed", "model.safetensors"}
    assert not found["changed"].is_new
    assert found["model.safetensors"].is_new
    assert found["model.safetensors"].bytes == 4


def test_a_file_copied_with_its_old_time_is_found(tmp_path: Path) -> None:
    files = TouchedFiles((tmp_path,))
    (tmp_path / "copied").write_text("x")
    os.utime(tmp_path / "copied", (1e9, 1e9))
    assert [one.path.name for one in files.find()] == ["copied"]


def test_a_folder_too_large_to_look_at_is_said(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).touch()
    files = TouchedFiles((tmp_path,), seconds=-1.0)
    assert not files.is_whole
    (tmp_path / "new").touch()
    assert not next(one for one in files.find() if one.path.name == "new").is_new, "unknown"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--output_dir", "../out"], ["out"]),
        (["--output-dir=../out"], ["out"]),
        (["output_dir=../out", "-o", "inside"], []),
        (["--default_root_dir", "../a", "--save_path=../b"], ["a", "b"]),
        (["--learning_rate", "../out"], []),
        (["--log_dir", "s3://bucket/x"], []),
        (["--output_dir"], []),
        (["--out-dir", "."], []),
    ],
)
def test_folders_that_arguments_name(tmp_path: Path, words: list[str], names: list[str]) -> None:
    here = tmp_path / "here"
    found = output_folders(["python", *words], here)
    assert found == tuple((tmp_path / name).resolve() for name in names)
