"""Processes that a launcher started find each other; nobody else is taken for one of them."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist

from headway.base.errors import Cause, MachineError
from headway.base.host.launcher import LaunchedPlace
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed import rendezvous
from headway.training.distributed.rendezvous import Sockets, meet

TREE = WorkerTree(4, 2)
PLACE = LaunchedPlace("torchrun", 0, 4, 0, 2, "127.0.0.1", 29500)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = dist.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr(rendezvous, "_launchers_store", lambda _: made)
    monkeypatch.setattr(rendezvous, "_GREETING_S", 0.5)
    return made


@pytest.fixture
def met() -> Iterator[dict[int, Sockets]]:
    """Who has met, by rank."""
    found: dict[int, Sockets] = {}
    yield found
    for sockets in found.values():
        for one in sockets.values():
            one.close()


def meet_all(ranks: range = range(4)) -> dict[int, Sockets]:
    met: dict[int, Sockets] = {}

    def one(rank: int) -> None:
        met[rank] = meet(replace(PLACE, rank=rank), TREE, Pulse())[0]

    threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return met


def test_each_rank_talks_to_its_parent_and_its_children(
    store: Any, met: dict[int, Sockets]
) -> None:
    del store
    met.update(meet_all())
    assert {rank: set(sockets) for rank, sockets in met.items()} == {
        0: {1, 2},
        1: {0},
        2: {0, 3},
        3: {2},
    }
    met[3][2].sendall(b"from 3")
    assert met[2][3].recv(6) == b"from 3"
    assert met[0][1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_what_an_earlier_start_left_in_the_store_is_passed_over(
    store: Any, met: dict[int, Sockets]
) -> None:
    old = "ab" * 16
    store.set("headway/start", old)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        host, port = gone.getsockname()
    store.set(f"headway/{old}/door/0", f"{host} {port}")
    others = threading.Thread(target=lambda: met.update(meet_all(range(1, 4))))
    others.start()
    time.sleep(0.3)  # they have read the old start by now
    met.update(meet_all(range(1)))
    others.join(30)
    assert set(met) == {0, 1, 2, 3}
    assert store.get("headway/start").decode() != old


def test_a_stranger_is_sent_away(store: Any, met: dict[int, Sockets]) -> None:
    root = threading.Thread(target=lambda: met.update(meet_all(range(1))))
    root.start()
    deadline = time.monotonic() + 20
    while not store.check(["headway/start"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    key = store.get("headway/start").decode()
    name = f"headway/{key}/door/0"
    while not store.check([name]) and time.monotonic() < deadline:
        time.sleep(0.01)
    host, port = store.get(name).decode().split()
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        stranger.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(1) == b""
    met.update(meet_all(range(1, 4)))
    root.join(30)
    assert set(met[0]) == {1, 2}


def test_p05_who_does_not_come_in_time_is_told_of(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.setattr(rendezvous, "_LIMIT_S", 0.3)
    with pytest.raises(MachineError, match="worker 3 did not find the others") as refused:
        meet(replace(PLACE, rank=3), TREE, Pulse())
    assert refused.value.cause is Cause.WORKER_LOST


def test_the_interface_is_the_one_with_the_address() -> None:
    assert rendezvous._interface_of("127.0.0.1") == "lo"
    assert rendezvous._interface_of("203.0.113.7") == ""
