"""An output appears whole or not at all, under its own name and nowhere else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.export.folders import write

from headway.base.errors import Cause, MachineError, OurBug, UsageError
from headway.base.files import verify_folder, write_folder
from headway.base.process_id import ProcessId
from headway.export.output import (
    check_files,
    check_name,
    check_output,
    check_room,
    file_name,
    publish,
    scratch_folder,
)
from headway.export.request import NOTE, SCHEMA


def fill(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"weights")


def exported(folder: Path, to: str = "hf") -> Path:
    """An earlier export."""

    def fill_old(made: Path) -> None:
        write(made / NOTE, {"schema": SCHEMA, "options": {"to": to}})
        (made / "old").touch()

    write_folder(folder, fill_old)
    return folder


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- names


@pytest.mark.parametrize("name", ["my-model", "a", "SmolLM2-135M_v1.5", "x" * 120, "a b"])
def test_a_plain_name_is_taken(name: str) -> None:
    assert check_name(name, "--name") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "-o", "a\nb", "a\0b"),
        *("x" * 121, "ä", "a ", "$(rm)", "con:", "a;b"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_with_one_that_works(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_name(name, "--name")
    assert refused.value.cause is Cause.INVALID_VALUE
    option, better = refused.value.remedies[0].do.split(" ", 1)
    assert (option, check_name(better, "--name")) == ("--name", better)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("runs/notes/model", "model"),
        ("Ünder", "nder"),
        ("..", "model"),
        ("a b", "a-b"),
        ("-", "model"),
    ],
)
def test_any_text_makes_a_name(text: str, name: str) -> None:
    assert file_name(text) == name
    assert check_name(name, "--name") == name


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "sub/file", "", ".", "..", "link", "gone"]
)
def test_a_target_that_names_no_file_in_its_folder_is_stopped(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").touch()
    (tmp_path / "out").touch()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(OurBug):
        check_files(folder, [name])


# -- what is there already


def test_a_new_or_an_empty_folder_and_an_earlier_export_are_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "new", tmp_path / "empty", exported(tmp_path / "again")):
        check_output(output, source, "hf")
        with scratch_folder(output) as scratch:
            publish(output, scratch, "hf", fill)
        assert visible(output) == ["manifest.json", "model.bin"]
        assert verify_folder(output) == []
    assert visible(tmp_path) == ["again", "empty", "new", "source"]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda path: (path.mkdir(), (path / "thesis.txt").touch()),
        lambda path: exported(path, "gguf"),
        lambda path: (exported(path) / "thesis.txt").touch(),
        lambda path: (exported(path) / "sub").mkdir(),
        lambda path: path.touch(),
        lambda path: (path.with_name("other").mkdir(), path.symlink_to("other")),
        lambda path: (
            path.mkdir(),
            write(path / NOTE, {"schema": "else", "options": {"to": "hf"}}),
        ),
        lambda path: (path.mkdir(), (path / NOTE).write_bytes(b"\xff{")),
    ],
    ids=[
        "files",
        "another program's",
        "an export and a file",
        "an export and a folder",
        "a file",
        "a link",
        "another note",
        "a broken note",
    ],
)
def test_nothing_else_is_written_over(tmp_path: Path, make: "type") -> None:
    output, source = tmp_path / "out", tmp_path / "source"
    source.mkdir()
    make(output)
    with pytest.raises(UsageError) as refused:
        check_output(output, source, "hf")
    assert refused.value.remedies[0].do == f"-o {tmp_path}/out-2"
    check_output(tmp_path / "out-2", source, "hf")


def test_what_is_exported_is_never_the_output(tmp_path: Path) -> None:
    source = exported(tmp_path / "run" / "checkpoint-1")
    for output in (source, tmp_path / "run", source / "inside"):
        with pytest.raises(UsageError):
            check_output(output, source, "hf")
    check_output(tmp_path / "run" / "export", source, "hf")


def test_what_appeared_meanwhile_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def fill_slowly(folder: Path) -> None:
        fill(folder)
        output.mkdir()
        (output / "somebody's").touch()

    with scratch_folder(output) as scratch, pytest.raises(UsageError):
        publish(output, scratch, "hf", fill_slowly)
    assert visible(output) == ["somebody's"]
    assert list(tmp_path.glob(".*")) == []


# -- what is interrupted


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    output = exported(tmp_path / "out")

    def fail(folder: Path) -> None:
        fill(folder)
        raise ValueError("differs")

    with pytest.raises(ValueError, match="differs"), scratch_folder(output) as scratch:
        publish(output, scratch, "hf", fail)
    assert visible(output) == [NOTE, "manifest.json", "old"]
    assert visible(tmp_path) == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from headway.export.output import publish, scratch_folder
output = Path(sys.argv[1])
def fill(folder):
    (folder / "model.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
with scratch_folder(output) as scratch:
    publish(output, scratch, "hf", fill)
"""


def test_a_kill_leaves_nothing_under_the_name_and_the_next_export_tidies_up(tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, str(output)])
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    (left,) = tmp_path.glob(".out.*.export")
    with scratch_folder(output) as scratch:
        assert not left.exists()
        publish(output, scratch, "hf", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


REPLACED = """
import os, signal, sys
from pathlib import Path
from headway.export import output as module
output = Path(sys.argv[1])
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
module.{name} = kill
with module.scratch_folder(output) as scratch:
    module.publish(output, scratch, "hf", lambda folder: (folder / "new").touch())
"""


@pytest.mark.parametrize(("name", "left"), [("exchange", "old"), ("sync_folder", "new")])
def test_a_kill_while_an_export_is_replaced_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, name: str, left: str
) -> None:
    output = exported(tmp_path / "out")
    code = REPLACED.replace("{name}", name)
    done = subprocess.run([sys.executable, "-c", code, str(output)])
    assert done.returncode == -signal.SIGKILL
    assert {"old", "new"} & {*visible(output)} == {left}


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    mine = ProcessId.of(os.getppid())
    assert mine is not None
    theirs = tmp_path / f".out.{mine.pid}-{mine.started}.export"
    others = [tmp_path / ".out.notes", tmp_path / ".out.1-x.export", tmp_path / ".other.1-1.export"]
    for path in (theirs, *others):
        path.mkdir()
    with scratch_folder(tmp_path / "out"):
        pass
    assert all(path.is_dir() for path in (theirs, *others))


# -- room


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path) -> None:
    check_room(tmp_path, 1000, "the export")
    with pytest.raises(MachineError) as refused:
        check_room(tmp_path, 1 << 60, "the export of notes")
    assert refused.value.cause is Cause.DISK_FULL
    assert "the export of notes" in refused.value.what
    assert visible(tmp_path) == []
