"""Connections: peers, states and bytes that wait, from the kernel's tables."""

from pathlib import Path

from tests.diagnose.evidence.kernel.fake_proc import HEAD, socket_line

from headway.diagnose.evidence.kernel.connections import Connection, connections, unix_names


def test_tcp_in_both_versions(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(
        HEAD
        + socket_line("0100007F:1F90", "00000000:0000", "0A", "00000005", 1)
        + socket_line("0100007F:1F90", "0A01A8C0:01BB", "01", "00001000", 2)
        + socket_line("0100007F:1F91", "0A01A8C0:01BB", "02", "00000000", 3)
        + "torn line\n"
    )
    six = "0000000000000000FFFF00000100007F"
    (tmp_path / "tcp6").write_text(
        HEAD
        + socket_line(f"{six}:1F90", f"{six}:01BB", "08", "00000000", 4)
        + socket_line(f"{six}:1F90", "B80D0120000000000000000001000000:01BB", "01", "00000000", 5)
    )
    assert connections(tmp_path) == {
        1: Connection("", "LISTEN", 0),
        2: Connection("192.168.1.10:443", "ESTABLISHED", 4096),
        3: Connection("192.168.1.10:443", "SYN_SENT", 0),
        4: Connection("127.0.0.1:443", "CLOSE_WAIT", 0),
        5: Connection("[2001:db8::1]:443", "ESTABLISHED", 0),
    }


def test_names_are_asked_for_over_udp(tmp_path: Path) -> None:
    (tmp_path / "udp").write_text(
        HEAD + socket_line("00000000:0035", "08080808:0035", "01", "0", 9)
    )
    assert connections(tmp_path) == {9: Connection("8.8.8.8:53", "", 0)}


def test_without_tables_there_are_none(tmp_path: Path) -> None:
    assert (connections(tmp_path), unix_names(tmp_path)) == ({}, {})


def test_unix_sockets_with_a_path(tmp_path: Path) -> None:
    (tmp_path / "unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 77 /run/service.sock\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 78\n"
    )
    assert unix_names(tmp_path) == {77: "/run/service.sock"}
