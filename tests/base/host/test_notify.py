"""Notifications to systemd: by its socket, and never in the way."""

import os
import socket
from pathlib import Path

import pytest

from headway.base.host.notify import notify, watchdog_s


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_lines_arrive_in_one_datagram(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@headway-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if kind == "abstract" else name)
        manager.settimeout(10)
        notify("READY=1", "STATUS=idle", environ={"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1\nSTATUS=idle"


@pytest.mark.parametrize("name", ["", "relative", "/no/such/socket", "@none"])
def test_nobody_there_is_no_error(name: str) -> None:
    notify("READY=1", environ={"NOTIFY_SOCKET": name})


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1800000000"}, 1800.0),
        ({"WATCHDOG_USEC": "1800000000", "WATCHDOG_PID": str(os.getpid())}, 1800.0),
        ({"WATCHDOG_USEC": "1800000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_known_by_its_variables(
    environ: dict[str, str], found: float | None
) -> None:
    assert watchdog_s(environ) == found
