"""A small real model folder and data to train it on."""

import json
from pathlib import Path

import pytest
import transformers
from tests.boundaries.odd_models import CHATS
from tests.helpers import save_model


@pytest.fixture(scope="package")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as save_pretrained writes it."""
    transformers.utils.logging.set_verbosity_error()
    return save_model(tmp_path_factory.mktemp("model") / "good", tie_word_embeddings=False)


@pytest.fixture(scope="package")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations."""
    path = tmp_path_factory.mktemp("data") / "chats.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in CHATS))
    return path
