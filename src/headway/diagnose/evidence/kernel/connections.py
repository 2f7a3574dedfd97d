"""Connections: what the kernel knows about the sockets of a process."""

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path

from headway.diagnose.evidence.kernel.proc_files import text_of

_STATES = (
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE"),
    *("CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)


@dataclass(frozen=True)
class Connection:
    """A TCP or UDP socket.

    Attributes:
        peer: "HOST:PORT", "" for one that listens.
        state: such as "ESTABLISHED"; "" for UDP.
        received: bytes that wait to be read.
    """

    peer: str
    state: str
    received: int


def connections(net: Path) -> dict[int, Connection]:
    """The sockets of a network namespace by inode.

    Args:
        net: a process's /proc/PID/net: containers have their own.
    """
    return {
        inode: found
        for name in ("tcp", "tcp6", "udp", "udp6")
        for line in text_of(net / name).splitlines()[1:]
        for inode, found in [_connection(line.split(), tcp=name.startswith("tcp"))]
        if inode
    }


def unix_names(net: Path) -> dict[int, str]:
    """The paths of Unix sockets that have one, by inode."""
    lines = (line.split() for line in text_of(net / "unix").splitlines()[1:])
    return {int(words[6]): words[7] for words in lines if len(words) > 7}


def _connection(words: list[str], *, tcp: bool) -> tuple[int, Connection]:
    """One line: sl local remote state tx:rx timer retransmits uid timeout inode ..."""
    if len(words) < 10:
        return 0, Connection("", "", 0)
    host, _, port = words[2].partition(":")
    number = int(words[3], 16)
    state = _STATES[number] if tcp and number < len(_STATES) else ""
    received = int(words[4].partition(":")[2], 16)
    peer = f"{_address(host)}:{int(port, 16)}" if int(port, 16) else ""
    if state == "LISTEN":  # what waits there are connections
        received = 0
    return int(words[9]), Connection(peer, state, received)


def _address(text: str) -> str:
    """An address as people write it, from the kernel's words of 4 bytes in the order of the CPU."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped:
        return str(mapped)
    return f"[{address}]" if address.version == 6 else str(address)
