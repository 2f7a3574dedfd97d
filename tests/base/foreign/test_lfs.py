"""Pointers of Git LFS are known in data and in models, and replaced by the line that is told."""

import os
import subprocess
from pathlib import Path

import pytest

from headway.base.errors import Cause, DataRefused, UsageError
from headway.base.foreign.lfs import check_fetched, fetch_remedy, is_pointer, is_pointer_file
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record, Skipped
from headway.data.sources.find import find_sources

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
NAMES = (
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.tsv",
    "a.parquet",
    "a.arrow",
    "a.txt",
    "a.jsonl.gz",
    "a.md",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_pointer_is_refused_in_every_format_with_a_line_that_fetches_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / name).write_bytes(POINTER)
    for path in (folder / name, folder):
        (source,) = find_sources([str(path)])
        with pytest.raises(DataRefused, match="is a Git LFS pointer") as caught:
            list(read(source, lambda _: None, Pulse()))
    # Git runs whatever `git-lfs` there is.
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "git-lfs"
    fake.write_text(f'#!/bin/sh\n[ "$1" = pull ] && echo \'{{"text": "fetched"}}\' > {name}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(caught.value.remedies[0].do, shell=True, check=True)
    assert b"fetched" in (folder / name).read_bytes()


def test_other_pointers_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "photo.png").write_bytes(POINTER)
    made = [i for s in find_sources([str(tmp_path)]) for i in read(s, lambda _: None, Pulse())]
    assert [getattr(one, "reason", "") for one in made] == ["", "a Git LFS pointer"]
    assert isinstance(made[0], Record)
    assert isinstance(made[1], Skipped)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_with_a_pointer_in_it_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check_fetched(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(UsageError, match=f"{name} is a Git LFS pointer") as caught:
        check_fetched(tmp_path)
    assert caught.value.cause is Cause.WEIGHTS_MISSING
    assert caught.value.remedies[0].do == f"cd {tmp_path} && git lfs pull"


def test_the_line_fits_where_the_pointer_is() -> None:
    assert fetch_remedy("a.jsonl").do == "git lfs pull"
    hub = fetch_remedy("https://host/datasets/o/n/raw/main/a.jsonl")
    assert hub.do == "https://host/datasets/o/n/resolve/main/a.jsonl"
    assert fetch_remedy("https://host/a.jsonl").do == "git lfs pull"


def test_a_text_about_pointers_is_none(tmp_path: Path) -> None:
    assert is_pointer(POINTER)
    assert not is_pointer(b"The file begins with version https://git-lfs.github.com/spec/v1")
    assert not is_pointer_file(tmp_path / "gone")
