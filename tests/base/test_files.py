"""What "saved" means: whole or not at all, verified, owned by one."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from headway.base import files
from headway.base.errors import MachineError
from headway.base.files import (
    MANIFEST,
    FileProblem,
    Manifest,
    append_line,
    delete_folder,
    delete_temporaries,
    make_folder,
    replace_link,
    verify_folder,
    write_folder,
    write_whole,
)

WEIGHTS = bytes(range(256)) * 400  # 102,400 bytes


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub").mkdir()
    (folder / "sub" / "config.json").write_text("{}")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint-1"
    write_folder(folder, fill)
    return folder


@contextmanager
def file_size_limit(num_bytes: int) -> Generator[None]:
    """Let no file of this process grow past `num_bytes`, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fail_fsync(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


# -- write_whole


def test_write_whole_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_whole(path, "old")
    write_whole(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_f37_a_failing_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "plan.json"
    write_whole(path, "old")
    fail_fsync(monkeypatch, number)
    with pytest.raises(MachineError):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_f35_a_full_disk_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_fsync(monkeypatch, errno.ENOSPC)
    with pytest.raises(MachineError, match="the disk is full") as refused:
        write_whole(tmp_path / "plan.json", "new")
    assert "free" in refused.value.have
    assert refused.value.remedies


def test_a_limit_on_file_size_is_told_with_the_limit(tmp_path: Path) -> None:
    with (
        file_size_limit(1000),
        pytest.raises(MachineError, match="exceeds the file size limit") as refused,
    ):
        write_whole(tmp_path / "model", WEIGHTS)
    assert refused.value.have == "at most 1.0 kB per file"
    assert list(tmp_path.iterdir()) == []


def test_f38_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write") as refused:
        write_whole(tmp_path / "gone" / "plan.json", "x")
    assert refused.value.have == "No such file or directory"


# -- write_folder and verify_folder


def test_a_written_folder_verifies_and_lists_every_file(checkpoint: Path) -> None:
    assert verify_folder(checkpoint) == []
    manifest = msgspec.json.decode((checkpoint / MANIFEST).read_bytes(), type=Manifest)
    assert set(manifest.files) == {"model.safetensors", "sub/config.json"}
    assert manifest.files["model.safetensors"].bytes == len(WEIGHTS)


def test_a_checkpoint_is_readable_by_others(checkpoint: Path) -> None:
    assert checkpoint.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError(errno.ENOSPC, "full")])
def test_nothing_stands_under_the_name_when_filling_fails(tmp_path: Path, error: Exception) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises((RuntimeError, MachineError)):
        write_folder(tmp_path / "checkpoint-1", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_bytes", range(0, len(WEIGHTS), 10_000))
def test_f35_a_disk_that_fills_up_leaves_the_older_checkpoint_as_it_was(
    checkpoint: Path, num_bytes: int
) -> None:
    with file_size_limit(num_bytes), pytest.raises(MachineError):
        write_folder(checkpoint.with_name("checkpoint-2"), fill)
    assert verify_folder(checkpoint) == []
    assert [p.name for p in checkpoint.parent.iterdir()] == ["checkpoint-1"]


def test_f37_a_checkpoint_whose_fsync_fails_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_fsync(monkeypatch, errno.EIO)
    with pytest.raises(MachineError, match="cannot write"):
        write_folder(tmp_path / "checkpoint-1", fill)
    assert list(tmp_path.iterdir()) == []


def test_what_reads_back_differently_does_not_get_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        files, "verify_folder", lambda _: [FileProblem("model.safetensors", "differs")]
    )
    with pytest.raises(MachineError, match="does not read back as it was written"):
        write_folder(tmp_path / "checkpoint-1", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_that_name_is_never_overwritten(checkpoint: Path) -> None:
    with pytest.raises(MachineError):
        write_folder(checkpoint, lambda folder: None)
    assert verify_folder(checkpoint) == []


def test_the_durable_order_is_files_then_folder_then_name_then_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        steps.append("folder" if name.startswith(".checkpoint-1.") else name)
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    write_folder(tmp_path / "checkpoint-1", fill)
    order = ["model.safetensors", "config.json", MANIFEST, "folder", "rename", tmp_path.name]
    assert [step for step in steps if step in order] == order


def test_a_new_parent_folder_is_made_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "runs" / "notes")
    assert set(synced) == {tmp_path, tmp_path / "runs"}
    synced.clear()
    make_folder(tmp_path / "runs" / "notes")
    assert synced == []


def test_f40_every_flipped_bit_is_found(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    for position in range(0, len(WEIGHTS), 9973):
        flipped = bytearray(WEIGHTS)
        flipped[position] ^= 1 << (position % 8)
        weights.write_bytes(flipped)
        assert verify_folder(checkpoint) == [
            FileProblem("model.safetensors", "differs from what was written (sha256)")
        ]


@pytest.mark.parametrize("kept", [0, 1, len(WEIGHTS) - 1])
def test_f41_truncation_is_found(checkpoint: Path, kept: int) -> None:
    (checkpoint / "model.safetensors").write_bytes(WEIGHTS[:kept])
    (problem,) = verify_folder(checkpoint)
    assert problem.what.endswith("102.4 kB were written")


def test_f41_a_zeroed_page_is_found(checkpoint: Path) -> None:
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    assert len(verify_folder(checkpoint)) == 1


def test_f42_a_missing_file_is_found(checkpoint: Path) -> None:
    (checkpoint / "sub" / "config.json").unlink()
    assert verify_folder(checkpoint) == [FileProblem("sub/config.json", "is missing")]


def test_f42_a_missing_manifest_is_found(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()
    assert verify_folder(checkpoint) == [FileProblem("manifest.json", "is missing")]


@pytest.mark.parametrize("content", [b"", b"{", b'{"files": 3}', b"\xff\xfe"])
def test_a_broken_manifest_is_found(checkpoint: Path, content: bytes) -> None:
    (checkpoint / MANIFEST).write_bytes(content)
    (problem,) = verify_folder(checkpoint)
    assert str(problem).startswith("manifest.json cannot be read")


def test_an_empty_folder_does_not_verify(tmp_path: Path) -> None:
    assert verify_folder(tmp_path) == [FileProblem("manifest.json", "is missing")]
    assert verify_folder(tmp_path / "gone") == [FileProblem("manifest.json", "is missing")]


def test_f37_a_name_that_may_not_be_on_the_disk_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = files.sync_folder

    def sync_folder(folder: Path) -> None:
        if (folder / "checkpoint-1").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(folder)

    monkeypatch.setattr(files, "sync_folder", sync_folder)
    with pytest.raises(MachineError, match="cannot write"):
        write_folder(tmp_path / "checkpoint-1", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_writer_made_private_is_readable_by_others(tmp_path: Path) -> None:
    def private(folder: Path) -> None:
        (folder / "model.safetensors").touch(0o600)

    write_folder(tmp_path / "checkpoint-1", private)
    assert (tmp_path / "checkpoint-1" / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_what_a_writer_in_rust_says_of_a_full_disk_is_understood(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(MachineError, match="the disk is full"):
        write_folder(tmp_path / "checkpoint-1", full)


def test_a_folder_with_a_link_in_it_is_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not read back") as refused:
        write_folder(tmp_path / "checkpoint-1", lambda f: (f / "config.json").symlink_to("x"))
    assert refused.value.have == "config.json is not in manifest.json"


def test_a_deleted_folder_leaves_nothing(checkpoint: Path) -> None:
    delete_folder(checkpoint)
    assert list(checkpoint.parent.iterdir()) == []
    delete_folder(checkpoint)  # gone already


def test_f02_a_half_deleted_folder_has_lost_its_name_first(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)  # killed before it
    delete_folder(checkpoint)
    (left,) = checkpoint.parent.iterdir()
    assert left.name.startswith(".checkpoint-1.")


# -- small things


def test_what_a_killed_process_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".a.jsonl.{gone.pid}-7.tmp").touch()
    (tmp_path / f".link.{gone.pid}-7.tmp").symlink_to("nowhere")
    stay = {"a.tmp", ".tmp", f".a.{os.getpid()}-7.tmp", f"a.{gone.pid}-7.tmp", ".a.x-7.tmp"}
    for name in stay:
        (tmp_path / name).touch()
    delete_temporaries(tmp_path)
    delete_temporaries(tmp_path / "missing")
    assert {path.name for path in tmp_path.iterdir()} == stay


def test_point_moves_a_link_by_one_rename(checkpoint: Path) -> None:
    link = checkpoint.with_name("model")
    second = checkpoint.with_name("checkpoint-2")
    shutil.copytree(checkpoint, second)
    for target in (checkpoint, second, second):
        replace_link(link, target)
        assert link.resolve() == target
    assert str(link.readlink()) == "checkpoint-2"  # relative: the run folder can be moved


def test_a_line_that_does_not_fit_on_the_disk_is_no_silent_loss(tmp_path: Path) -> None:
    with file_size_limit(10), pytest.raises(MachineError, match="the disk is full"):
        append_line(tmp_path / "events.jsonl", b"0123456789abcdef")


@pytest.mark.parametrize(
    ("taken", "suffix", "expected"),
    [
        ([], "", "run.tar.gz"),
        (["run.tar.gz"], "", "run.tar.gz-2"),
        (["run.tar.gz"], ".tar.gz", "run-2.tar.gz"),
        (["run.tar.gz", "run-2.tar.gz", "run-4.tar.gz"], ".tar.gz", "run-3.tar.gz"),
    ],
)
def test_a_path_that_is_taken_gets_the_first_free_number(
    tmp_path: Path, taken: list[str], suffix: str, expected: str
) -> None:
    for name in taken:
        (tmp_path / name).mkdir()
    assert files.unused_path(tmp_path / "run.tar.gz", suffix) == tmp_path / expected


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.cache_folder("measured") == Path("/somewhere/headway/measured")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert files.cache_folder() == Path("/home/me/.cache/headway")


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", fail)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert files.cache_folder("stores") == Path("/elsewhere/headway/stores")
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(MachineError, match="has no home folder") as caught:
        files.cache_folder()
    assert [one.do for one in caught.value.remedies] == [
        "export HOME=$PWD",
        "export XDG_CACHE_HOME=DIR",
    ]
