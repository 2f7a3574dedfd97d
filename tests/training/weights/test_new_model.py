"""A new model: a folder that trains, asks and loads like any other, the same each time."""

from pathlib import Path

import pytest

from headway.base.errors import Exit
from headway.base.files import hash_file
from headway.data.examples.tokenizer import load
from headway.training.weights.initial_weights import load_folder
from headway.training.weights.new_model import main

TEXTS = ["Whoever bakes sings. Ada bakes.", "Whoever sings never rows."] * 9


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(TEXTS))
    return path


def test_the_same_arguments_write_the_same_model(tmp_path: Path, texts: Path) -> None:
    hashes: list[str] = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main([str(tmp_path / name), "tiny", "300", seed, str(texts)]) == Exit.KEPT
        hashes.append(hash_file(tmp_path / name / "model.safetensors").sha256)
    assert hashes[0] == hashes[1] != hashes[2]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_it_loads_with_a_tokenizer_for_conversations(tmp_path: Path, texts: Path) -> None:
    main([str(tmp_path / "new"), "tiny", "300", "0", str(texts)])
    words = load(tmp_path / "new")
    model = load_folder(tmp_path / "new")
    assert words.chat_template
    assert len(model.get_parameter("model.embed_tokens.weight")) == words.vocab_size
    assert len(words.encode([" never"])[0]) < len(" never")
