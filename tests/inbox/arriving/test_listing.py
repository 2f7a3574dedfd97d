"""Listing of real folders: kinds, writers, hashes; nothing is followed."""

import fcntl
import os
import socket
from pathlib import Path

import pytest

from headway.base.files import hash_bytes
from headway.inbox.arriving.arrivals import ArrivalKind, FileWriter, ProbedFile
from headway.inbox.arriving.listing import (
    content_hash,
    list_inbox,
    look_at,
    no_sigio,
    probe,
    writer_of,
)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    folder = tmp_path / "box"
    folder.mkdir()
    return folder


def test_each_name_is_known_by_its_kind(box: Path, tmp_path: Path) -> None:
    (box / "file").write_text("x")
    (box / "folder").mkdir()
    (box / "link").symlink_to(tmp_path)
    (box / "lost").symlink_to(tmp_path / "missing")
    os.mkfifo(box / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(box / "socket"))
        found = {listed.name: listed.kind for listed in list_inbox(box)}
    assert found == {
        "file": ArrivalKind.FILE,
        "folder": ArrivalKind.FOLDER,
        "link": ArrivalKind.LINK,
        "lost": ArrivalKind.LINK,
        "pipe": ArrivalKind.PIPE,
        "socket": ArrivalKind.SOCKET,
    }


def test_a_name_that_is_no_text_is_one_of_its_own(box: Path) -> None:
    Path(os.fsdecode(os.fsencode(box) + b"/a\xff")).write_text("x")
    assert [listed.kind for listed in list_inbox(box)] == [ArrivalKind.UNNAMED]


def test_a_folder_changes_with_any_file_in_it(box: Path) -> None:
    inner = box / "a" / "b"
    inner.mkdir(parents=True)
    empty = look_at(box / "a")
    assert empty.num_files == 0
    (inner / "c").write_text("1")
    one = look_at(box / "a")
    (inner / "c").write_text("12")
    two = look_at(box / "a")
    assert len({empty, one, two}) == 3
    assert (one.num_files, one.bytes, two.bytes) == (1, 1, 2)


def test_a_stamp_outlives_a_rename(box: Path) -> None:
    for kind in ("file", "folder"):
        path = box / kind
        if kind == "folder":
            path.mkdir()
            (path / "x").write_text("x")
        else:
            path.write_text("x")
        before = look_at(path)
        path.rename(box / "other")
        assert look_at(box / "other").stamp == before.stamp
        (box / "other").rename(path)


def test_f46_who_has_it_open_for_writing_is_seen(box: Path) -> None:
    path = box / "a"
    path.write_text("x")
    assert writer_of(path) is FileWriter.NONE
    with path.open():
        assert writer_of(path) is FileWriter.NONE
    with path.open("a"):
        assert writer_of(path) is FileWriter.ACTIVE
        assert probe(box, ArrivalKind.FOLDER).writer is FileWriter.ACTIVE
    assert writer_of(path) is FileWriter.NONE


def test_without_leases_nothing_is_known(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (box / "a").write_text("x")
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise PermissionError(1, "not yours")
        return int(real(descriptor, command, argument))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert probe(box / "a", ArrivalKind.FILE).writer is FileWriter.UNKNOWN
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert writer_of(box / "a") is FileWriter.UNKNOWN


def test_no_link_and_no_pipe_is_opened(box: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (box / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(box / "pipe")
    assert writer_of(box / "link") is FileWriter.UNKNOWN
    assert probe(box / "pipe", ArrivalKind.FILE).writer is not FileWriter.ACTIVE


@pytest.mark.parametrize(
    ("name", "content", "whole"),
    [
        ("a.jsonl", b'{"text": "a"}\n', True),
        ("a.jsonl", b'{"text": "a"}', True),
        ("a.jsonl", b'{"text": "a', False),
        ("a.txt", b"half a line", False),
        ("a.txt", b"a line\r\n", True),
        ("a.parquet", b"PAR1", True),
        ("a.jsonl.gz", b"\x1f\x8b", True),
        ("a.txt", b"", True),
    ],
)
def test_the_last_line_has_an_end(box: Path, name: str, content: bytes, whole: bool) -> None:
    (box / name).write_bytes(content)
    assert probe(box / name, ArrivalKind.FILE) == ProbedFile(FileWriter.NONE, whole)


def test_the_hash_of_a_folder_is_of_names_and_contents(box: Path, tmp_path: Path) -> None:
    (box / "a").write_text("x")
    assert content_hash(box / "a") == hash_bytes(b"x")
    hashes = [content_hash(box)]
    (box / "a").rename(box / "b")
    hashes.append(content_hash(box))
    (box / "b").write_text("y")
    hashes.append(content_hash(box))
    assert len(set(hashes)) == 3
    (tmp_path / "secret").write_text("1")
    (box / "link").symlink_to(tmp_path / "secret")
    assert content_hash(box) == hashes[-1]


def test_a_signal_of_another_programs_write_does_not_end_us() -> None:
    """A program that opens a leased file sends SIGIO, whose default is to end the process."""
    import signal

    before = signal.getsignal(signal.SIGIO)
    with no_sigio():
        os.kill(os.getpid(), signal.SIGIO)
    assert signal.getsignal(signal.SIGIO) == before
