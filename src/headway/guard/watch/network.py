"""Bytes that connections of some processes received, as the kernel counts them (sock_diag)."""

import contextlib
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2  # NLMSG_DONE, NLMSG_ERROR
_INFO = 2  # INET_DIAG_INFO
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI48x")
_INODE_AT, _ATTRIBUTES_AT, _RECEIVED_AT = 68, 72, 128
_ALL_STATES = 0xFFFFFFFF & ~(1 << 10)  # but those that listen
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def received_bytes(pids: Iterable[int]) -> dict[int, int] | None:
    """Bytes that each TCP connection of these processes has received so far.

    Returns:
        By the connection's inode; None where the kernel does not tell.
    """
    if sys.platform != "linux":
        return None
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    if not inodes:
        return {}
    found: dict[int, int] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            found |= dict(_connections(family))
    except OSError:
        return None
    return {inode: found[inode] for inode in inodes & found.keys()}


def _sockets(pid: int) -> Iterator[int]:
    """Inodes of the sockets that a process has open."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - names alone
            with contextlib.suppress(OSError):
                if match := _SOCKET.fullmatch(os.readlink(f"{folder}/{name}")):  # noqa: PTH115
                    yield int(match[1])


def _connections(family: int) -> Iterator[tuple[int, int]]:
    """Inode and received bytes of every TCP connection of this network namespace.

    Raises:
        OSError: the kernel does not tell.
    """
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, _ALL_STATES)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as ask:
        ask.settimeout(0.5)
        ask.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _DUMP, 1, 0) + request)
        while True:
            data = ask.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("sock_diag is not available")
                yield from _connection(data[at + _HEADER.size : at + length])
                at += (length + 3) & ~3


def _connection(message: bytes) -> Iterator[tuple[int, int]]:
    if len(message) < _ATTRIBUTES_AT:
        return
    (inode,) = struct.unpack_from("=I", message, _INODE_AT)
    at = _ATTRIBUTES_AT
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == _INFO and length >= 4 + _RECEIVED_AT + 8:
            yield inode, struct.unpack_from("=Q", message, at + 4 + _RECEIVED_AT)[0]
        at += max((length + 3) & ~3, 4)
