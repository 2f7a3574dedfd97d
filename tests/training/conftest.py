"""What the trainer's tests may count on."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers import chat_store, chats, save_model, text_store
from tests.training.distributed.sockets import Connect, Sockets

from headway.runs.workers import WorkerTree
from headway.training.trials import speed


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 55 rows of 16, some conversations, and a model to adapt."""
    folder = tmp_path_factory.mktemp("job")
    text_store(folder / "text", 300, 40, 1, 2, 500, 30)
    chat_store(folder / "chats", *chats(50))
    save_model(folder / "base")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_matrix_products_for_their_own_sake() -> Iterator[None]:
    """Measuring takes tenths of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "_MEASURE_S", 0.0)
        yield


@pytest.fixture
def connect() -> Iterator[Connect]:
    """For each rank of a tree, its sockets by the rank at the other end."""
    opened: list[socket.socket] = []

    def connected(tree: WorkerTree) -> Sockets:
        sockets: Sockets = {rank: {} for rank in range(tree.workers)}
        for rank in range(1, tree.workers):
            parent = tree.parent_of(rank)
            assert parent is not None
            pair = socket.socketpair()
            sockets[parent][rank], sockets[rank][parent] = pair
            opened.extend(pair)
        return sockets

    yield connected
    for one in opened:
        one.close()


@pytest.fixture
def descriptor() -> Iterator[int]:
    """Memory without a name."""
    memory = os.memfd_create("sums")
    yield memory
    os.close(memory)
