"""F40, F41, F42: a checkpoint that was damaged later is found, and the one before is used."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.failures.saver import weights

from headway.base import files
from headway.base.files import MANIFEST, FileProblem, verify_folder, write_folder
from headway.runs.folder import RunFolder

PAGE = 4096


def fill(folder: Path) -> None:
    """What a checkpoint consists of, small: a large file, small ones, an empty one."""
    (folder / "model.safetensors").write_bytes(weights(2))
    (folder / "optimizer.safetensors").write_bytes(weights(1) * 2)
    (folder / "config.json").write_text('{"hidden_size": 16}')
    (folder / "headway.json").write_text('{"global_step": 2}')
    (folder / "adapters").mkdir()
    (folder / "adapters" / "config.json").write_text("{}")
    (folder / "merges.txt").write_text("")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with two checkpoints that verify."""
    run = RunFolder(tmp_path_factory.mktemp("sound"))
    for step in (1, 2):
        write_folder(run.path / f"checkpoint-{step}", fill)
    return run


@pytest.fixture
def run(sound: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(sound.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def all_files(run: RunFolder) -> list[Path]:
    """Every file of the newest checkpoint, the manifest among them."""
    return sorted(p for p in (run.path / "checkpoint-2").rglob("*") if p.is_file())


def older_is_used(run: RunFolder) -> bool:
    newest, problems = run.newest_verified()
    return newest is not None and newest.global_step == 1 and len(problems) == 1


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def flips(run: RunFolder, num: int) -> None:
    chance = random.Random(40)
    there = [path for path in all_files(run) if path.stat().st_size]
    for number in range(num):
        path = there[number % len(there)]
        bit = chance.randrange(path.stat().st_size * 8)
        flip(path, bit)
        assert older_is_used(run), f"{path.name}: bit {bit}"
        flip(path, bit)
    assert verify_folder(run.path / "checkpoint-2") == []


def test_f40_a_flipped_bit_anywhere_is_found_and_the_older_one_is_used(run: RunFolder) -> None:
    flips(run, 100)


def test_f40_comparing_sizes_alone_would_be_found(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_difference", lambda path, expected: "")
    with pytest.raises(AssertionError):
        flips(run, 10)


@pytest.mark.chaos
def test_f40_a_thousand_flipped_bits_are_found(run: RunFolder) -> None:
    flips(run, 1000)


def test_f40_every_single_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    write_folder(folder, lambda f: [(f / n).write_text("x") for n in "bc"] and None)
    for bit in range((folder / MANIFEST).stat().st_size * 8):
        flip(folder / MANIFEST, bit)
        assert verify_folder(folder), f"bit {bit}"
        flip(folder / MANIFEST, bit)
    assert verify_folder(folder) == []


def test_f41_wherever_a_file_is_cut_it_is_found(run: RunFolder) -> None:
    chance = random.Random(41)
    for path in all_files(run):
        before = path.read_bytes()
        for kept in {0, len(before) // 2, len(before) - 1, chance.randrange(len(before) + 1)}:
            if 0 <= kept < len(before):
                path.write_bytes(before[:kept])
                assert older_is_used(run), f"{path.name} cut to {kept} bytes"
        path.write_bytes(before)


def test_f41_whichever_page_is_zeroed_it_is_found(run: RunFolder) -> None:
    for path in all_files(run):
        before = path.read_bytes()
        for begin in range(0, len(before), PAGE):
            zeroed = before[:begin] + bytes(len(before[begin : begin + PAGE]))
            path.write_bytes(zeroed + before[begin + PAGE :])
            assert older_is_used(run), f"{path.name} zeroed from byte {begin}"
        path.write_bytes(before)


def test_f42_whichever_file_is_missing_it_is_found(run: RunFolder) -> None:
    for path in all_files(run):
        before = path.read_bytes()
        path.unlink()
        assert older_is_used(run), path.name
        path.write_bytes(before)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def a_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize("harm", [empty, shutil.rmtree, a_file_in_its_place])
def test_f42_c01_an_empty_folder_or_none_is_passed_over(
    run: RunFolder, harm: Callable[[Path], None]
) -> None:
    harm(run.path / "checkpoint-2")
    newest, _ = run.newest_verified()
    assert newest is not None
    assert newest.global_step == 1


# -- a manifest is data, and may be somebody else's


def rewrite(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest["files"])
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["../checkpoint-1/config.json", "/etc/hostname", "./config.json"])
def test_a_manifest_leads_to_no_file_outside_its_folder(run: RunFolder, name: str) -> None:
    folder = run.path / "checkpoint-2"
    rewrite(folder, lambda named: named.update({name: named["config.json"]}))
    assert verify_folder(folder) == [FileProblem(name, "is missing")]


def test_a_link_is_not_followed_even_to_the_right_bytes(run: RunFolder) -> None:
    folder = run.path / "checkpoint-2"
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("../checkpoint-1/config.json")
    (problem,) = verify_folder(folder)
    assert str(problem) == "config.json cannot be read: not a regular file"
    shutil.rmtree(folder / "adapters")
    (folder / "adapters").symlink_to("../checkpoint-1/adapters")
    assert FileProblem("adapters", "is not in manifest.json") in verify_folder(folder)


@pytest.mark.parametrize("name", ["config.json", MANIFEST])
def test_a_pipe_is_not_waited_for(run: RunFolder, name: str) -> None:
    folder = run.path / "checkpoint-2"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    (problem,) = verify_folder(folder)
    assert problem.file == name


def test_a_file_that_the_manifest_does_not_name_is_told(run: RunFolder) -> None:
    folder = run.path / "checkpoint-2"
    (folder / "adapters" / "pytorch_model.bin").write_bytes(b"a loader might take this one")
    assert verify_folder(folder) == [
        FileProblem("adapters/pytorch_model.bin", "is not in manifest.json")
    ]


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0000000000a1", "adapters/.directory"])
def test_what_file_managers_and_nfs_leave_is_let_be(run: RunFolder, name: str) -> None:
    (run.path / "checkpoint-2" / name).write_bytes(b"icons")
    assert verify_folder(run.path / "checkpoint-2") == []


def test_a_hidden_file_that_was_saved_counts_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    write_folder(folder, lambda f: (f / ".hidden").write_text("x") and None)
    assert verify_folder(folder) == []
    (folder / ".hidden").write_text("y")
    assert len(verify_folder(folder)) == 1


def test_a_manifest_of_another_version_is_told(run: RunFolder) -> None:
    path = run.path / "checkpoint-2" / MANIFEST
    path.write_text(path.read_text().replace("headway.manifest/1", "headway.manifest/9"))
    assert "headway.manifest/9" in verify_folder(path.parent)[0].what
