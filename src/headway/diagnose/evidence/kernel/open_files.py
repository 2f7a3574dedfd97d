"""Open files: what the descriptors of a process lead to."""

import re
from collections.abc import Mapping
from pathlib import Path

from headway.diagnose.evidence.facts import Link, OpenFile
from headway.diagnose.evidence.kernel.connections import Connection, connections, unix_names

MOST = 1000  # descriptors that are read, the lowest first
_NUMBERED = re.compile(r"(socket|pipe):\[(\d+)\]")
_TERMINALS = re.compile(r"/dev/(pts/\d+|tty\w*|console)")


class OpenFiles:
    """Reader of descriptors; the tables of sockets are read once per network namespace."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[Mapping[int, Connection], Mapping[int, str]]] = {}

    def read(self, process: Path) -> tuple[OpenFile, ...]:
        """What a process has open, by descriptor.

        Args:
            process: its folder in /proc.

        Raises:
            PermissionError: it is another user's.
            OSError: it is gone.
        """
        descriptors = sorted(int(entry.name) for entry in (process / "fd").iterdir())[:MOST]
        found: list[OpenFile] = []
        for descriptor in descriptors:
            try:
                target = str((process / "fd" / str(descriptor)).readlink())
            except OSError:  # closed meanwhile
                continue
            found.append(self._open_file(process, descriptor, target))
        return tuple(found)

    def _open_file(self, process: Path, descriptor: int, target: str) -> OpenFile:
        numbered = _NUMBERED.fullmatch(target)
        if numbered and numbered[1] == "socket":
            sockets, names = self._sockets(process)
            inode = int(numbered[2])
            if inode in sockets:
                one = sockets[inode]
                return OpenFile(
                    descriptor, Link.SOCKET, target, one.peer, one.state, received=one.received
                )
            return OpenFile(descriptor, Link.SOCKET, names.get(inode, target))
        return OpenFile(descriptor, _link(target), target)

    def _sockets(self, process: Path) -> tuple[Mapping[int, Connection], Mapping[int, str]]:
        try:
            namespace = str((process / "ns" / "net").readlink())
        except OSError:
            namespace = str(process)
        if namespace not in self._tables:
            net = process / "net"
            self._tables[namespace] = connections(net), unix_names(net)
        return self._tables[namespace]


def _link(target: str) -> Link:
    if target.startswith("pipe:"):
        return Link.PIPE
    if _TERMINALS.fullmatch(target):
        return Link.TERMINAL
    # "anon_inode:[eventpoll]", "/dev/null", "/memfd:x (deleted)"
    if target.startswith("/") and not target.startswith(("/dev/", "/memfd:")):
        return Link.FILE
    return Link.FILE if target.startswith("/dev/shm/") else Link.OTHER  # noqa: S108 - its name
