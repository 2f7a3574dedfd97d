"""Open files: files, pipes, terminals and sockets with who is at the other end."""

from pathlib import Path

import pytest
from tests.diagnose.evidence.kernel.fake_proc import HEAD, add_process, link, socket_line

from headway.diagnose.evidence.facts import Link, OpenFile
from headway.diagnose.evidence.kernel.open_files import OpenFiles


def test_what_descriptors_lead_to(tmp_path: Path) -> None:
    process = add_process(tmp_path, 10)
    (process / "net").mkdir()
    (process / "net" / "tcp").write_text(
        HEAD + socket_line("0100007F:1F90", "0100007F:01BB", "01", "00000010", 55)
    )
    targets = ("/dev/pts/3", "pipe:[5]", "socket:[55]", "socket:[56]", "/data/a (deleted)")
    for descriptor, target in enumerate((*targets, "anon_inode:[eventpoll]", "/dev/null")):
        link(process, descriptor, target)
    assert OpenFiles().read(process) == (
        OpenFile(0, Link.TERMINAL, "/dev/pts/3"),
        OpenFile(1, Link.PIPE, "pipe:[5]"),
        OpenFile(2, Link.SOCKET, "socket:[55]", "127.0.0.1:443", "ESTABLISHED", 16),
        OpenFile(3, Link.SOCKET, "socket:[56]"),
        OpenFile(4, Link.FILE, "/data/a (deleted)"),
        OpenFile(5, Link.OTHER, "anon_inode:[eventpoll]"),
        OpenFile(6, Link.OTHER, "/dev/null"),
    )


def test_processes_of_one_network_share_its_table(tmp_path: Path) -> None:
    for pid, network in ((10, "net:[1]"), (11, "net:[1]"), (12, "net:[2]")):
        process = add_process(tmp_path, pid)
        (process / "ns").mkdir()
        (process / "ns" / "net").symlink_to(network)
        (process / "net").mkdir()
        remote = f"0100007F:{pid:04X}"
        (process / "net" / "tcp").write_text(
            HEAD + socket_line("0100007F:1F90", remote, "01", "0", 55)
        )
        link(process, 3, "socket:[55]")
    files = OpenFiles()
    peers = [files.read(tmp_path / str(pid))[0].peer for pid in (10, 11, 12)]
    assert peers == ["127.0.0.1:10", "127.0.0.1:10", "127.0.0.1:12"]


def test_a_process_that_is_gone_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OpenFiles().read(tmp_path / "10")
