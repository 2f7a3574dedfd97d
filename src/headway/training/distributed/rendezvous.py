"""Rendezvous: how the processes that a launcher started, on any machines, connect to each other.

They meet in the launcher's store. The root puts a random number there, and each rank with children
puts its address under it. A connection must present the number, so neither an address left in the
store by an earlier start nor a stranger on the network is taken for a worker. Connections use TCP
keepalive: they end within half a minute of a machine going silent.
"""

import contextlib
import hmac
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import wait
from datetime import timedelta
from typing import TypeVar

import psutil
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.host.background import in_background
from headway.base.host.launcher import LaunchedPlace
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.process_group import ProcessGroup

_LIMIT_S = 300.0  # for all to be there; they import the same libraries at the same time
_ASK_S = 0.1
_GREETING_S = 10.0  # for who connects to say who it is
_KEY_BYTES = 16
_RANK_BYTES = 4
_INTERFACE = "GLOO_SOCKET_IFNAME"
# A connection without an answer for 10 + 4 x 5 s is gone.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
T = TypeVar("T")
Sockets = dict[int, socket.socket]


class Late(Exception):  # noqa: N818 - what is made of it is the caller's
    """Not all were there in time."""


def meet(place: LaunchedPlace, tree: WorkerTree, pulse: Pulse) -> tuple[Sockets, Store]:
    """Connect to the parent and the children in the tree of workers.

    Args:
        place: of this process.
        tree: of all workers.
        pulse: beats while others are waited for.

    Returns:
        A socket to each rank that this one talks to, and a store that is this start's own.

    Raises:
        MachineError: not all came in time.
    """
    try:
        with pulse.waiting("the other workers"):
            return _beating(lambda: _meet(place, tree, time.monotonic() + _LIMIT_S), pulse)
    except (Late, RuntimeError, OSError) as error:
        raise _not_met(place) from error


def process_group(
    place: LaunchedPlace,
    tree: WorkerTree,
    store: Store,
    device: str,
    pulse: Pulse,
    on_wait: Callable[[], None],
) -> ProcessGroup:
    """The group of all workers, over the network that leads to the meeting place."""
    os.environ.setdefault(_INTERFACE, _interface_of(_own_address(place)[1]))
    return ProcessGroup(store, tree, place.rank, device, pulse, on_wait)


def _meet(place: LaunchedPlace, tree: WorkerTree, until_s: float) -> tuple[Sockets, Store]:
    store = _launchers_store(place)
    children = tree.children_of(place.rank)
    with contextlib.ExitStack() as stack:
        family, address = _own_address(place)
        made = socket.create_server((address, 0), family=family, backlog=1024)
        door = stack.enter_context(made)
        at = door.getsockname()[:2]
        if place.rank == 0:
            key = secrets.token_bytes(_KEY_BYTES)
            store.set("headway/start", key.hex())
            sockets: Sockets = {}
        else:
            parent = tree.parent_of(place.rank)
            assert parent is not None, "only the root has none"
            key, connection = _connect(store, place.rank, parent, until_s)
            sockets = {parent: connection}
        own = PrefixStore(f"headway/{key.hex()}", store)
        if children:
            own.set(f"door/{place.rank}", f"{at[0]} {at[1]}")
            sockets |= _let_in(door, key, set(children), until_s)
    for connection in sockets.values():
        _keep_alive(connection)
    return sockets, own


def _launchers_store(place: LaunchedPlace) -> Store:
    """The store that torchrun keeps; without it, one that the root keeps."""
    environment = {
        "RANK": place.rank,
        "WORLD_SIZE": place.workers,
        "MASTER_ADDR": place.address,
        "MASTER_PORT": place.port,
    }
    os.environ.update({name: str(value) for name, value in environment.items()})
    made = rendezvous("env://", timeout=timedelta(seconds=_LIMIT_S))
    store, _, _ = next(iter(made))
    return store


def _connect(store: Store, rank: int, parent: int, until_s: float) -> tuple[bytes, socket.socket]:
    """Connect to the parent, as soon as it is there; the store may hold what is outdated."""
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError, ValueError):
            if store.check(["headway/start"]):
                key = bytes.fromhex(store.get("headway/start").decode())
                name = f"headway/{key.hex()}/door/{parent}"
                if store.check([name]):
                    host, port = store.get(name).decode().split()
                    return key, _greet((host, int(port)), key, rank)
        time.sleep(_ASK_S)
    raise Late


def _greet(address: tuple[str, int], key: bytes, rank: int) -> socket.socket:
    connection = socket.create_connection(address, timeout=_GREETING_S)
    try:
        connection.sendall(key + rank.to_bytes(_RANK_BYTES, "big"))
        if _read(connection, _KEY_BYTES) != key[::-1]:
            raise ConnectionError(f"not a worker at {address}")
    except BaseException:
        connection.close()
        raise
    connection.settimeout(None)
    return connection


def _let_in(door: socket.socket, key: bytes, children: set[int], until_s: float) -> Sockets:
    """Wait for the children; who does not know the key is sent away."""
    sockets: Sockets = {}
    door.settimeout(_ASK_S)
    while children - set(sockets):
        if time.monotonic() > until_s:
            raise Late
        with contextlib.suppress(TimeoutError):
            connection, _ = door.accept()
            rank = _rank_of(connection, key)
            if rank in children and rank not in sockets:
                connection.settimeout(None)
                sockets[rank] = connection
            else:
                connection.close()
    return sockets


def _rank_of(connection: socket.socket, key: bytes) -> int:
    """The rank that connects; -1 for somebody else."""
    connection.settimeout(_GREETING_S)
    try:
        said = _read(connection, _KEY_BYTES + _RANK_BYTES)
        if not hmac.compare_digest(said[:_KEY_BYTES], key):
            return -1
        connection.sendall(key[::-1])
    except OSError:
        return -1
    return int.from_bytes(said[_KEY_BYTES:], "big")


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionError("closed before it said who it is")
        data += piece
    return data


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # macOS lacks some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _own_address(place: LaunchedPlace) -> tuple[socket.AddressFamily, str]:
    """Address of this machine in the network that leads to the meeting place, and its family."""
    family, _, _, _, to = socket.getaddrinfo(place.address, place.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(to)  # sends nothing
        return family, str(probe.getsockname()[0])


def _interface_of(address: str) -> str:
    """The network interface with an address."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return name
    return ""


def _beating(work: Callable[[], T], pulse: Pulse) -> T:
    """Do something that waits in native code, while the pulse beats."""
    future = in_background("rendezvous", work)
    while wait([future], _ASK_S).not_done:
        pulse.beat()
    return future.result()


def _not_met(place: LaunchedPlace) -> MachineError:
    return MachineError(
        f"worker {place.rank} did not find the others",
        cause=Cause.WORKER_LOST,
        have=f"{place.workers} workers that {place.launcher} started, meeting at "
        f"{place.address}:{place.port}",
        need=f"all of them within {_LIMIT_S:.0f} s, and a network in which they reach each other",
        remedies=(
            Remedy(f"nc -vz {place.address} {place.port}", "on each machine: is it reached?"),
            Remedy(f"export {_INTERFACE}=eth0", "the interface that the machines share"),
        ),
    )
