"""What the campaigns against the trainer may count on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.forks import Forks
from tests.helpers import chat_store, chats, save_model, text_store


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 55 rows of 16, some conversations, and a model to adapt."""
    folder = tmp_path_factory.mktemp("data")
    text_store(folder / "text", 300, 40, 1, 2, 500, 30)
    chat_store(folder / "chats", *chats(50))
    save_model(folder / "base")
    return folder


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Starts trainers in milliseconds."""
    server = Forks()
    yield server
    server.close()
