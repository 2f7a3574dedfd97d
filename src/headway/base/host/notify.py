"""Notifications to systemd: ready, alive, stopping; nothing where no systemd asks for them."""

import contextlib
import os
import socket
from collections.abc import Mapping

_SOCKET, _WATCHDOG, _PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send lines such as READY=1 to the service manager, if one started this process."""
    address = environ.get(_SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one,
    ):
        one.connect(address)
        one.sendall("\n".join(lines).encode())


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How long the service manager waits for WATCHDOG=1; None if it does not."""
    text, pid = environ.get(_WATCHDOG, ""), environ.get(_PID, "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6 or None
