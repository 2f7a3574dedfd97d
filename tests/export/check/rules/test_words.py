"""Words: what belongs together, and what a base model does without."""

import json
import shutil
from pathlib import Path

import pytest
from tests.export.folders import (
    DOCUMENT_END,
    TURN_END,
    adapter_folder,
    change,
    model_folder,
)

from headway.base.errors import Cause
from headway.export.check.folder_facts import read_folder
from headway.export.check.rules.words import words


def found(folder: Path, base: Path | None = None) -> list[Cause | None]:
    facts = read_folder(folder, read_folder(base) if base else None)
    return [finding.cause for finding in words(facts)]


def test_end_tokens_may_stand_in_config_json_alone(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "generation_config.json").unlink()
    assert found(folder) == []
    change(folder / "config.json", eos_token_id=DOCUMENT_END)
    assert found(folder) == [Cause.END_TOKEN_MISSING]


def test_more_end_tokens_than_the_tokenizer_names_are_fine(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", chat=False)
    change(folder / "generation_config.json", eos_token_id=[DOCUMENT_END, 1])
    assert found(folder) == []


def test_an_end_token_that_the_tokenizer_does_not_have(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    change(folder / "tokenizer_config.json", eos_token="</s>")
    assert found(folder) == [Cause.END_TOKEN_MISSING]
    change(folder / "tokenizer_config.json", eos_token={"content": "<|im_end|>"})
    assert found(folder) == []


def test_a_model_of_text_needs_no_template_and_a_chat_model_does(tmp_path: Path) -> None:
    assert found(model_folder(tmp_path / "text", chat=False)) == []
    folder = model_folder(tmp_path / "chat")
    (folder / "chat_template.jinja").unlink()
    assert found(folder) == [Cause.TEMPLATE_MISSING]
    change(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    assert found(folder) == []
    named = [{"name": "default", "template": "{{ messages }}"}]
    change(folder / "tokenizer_config.json", chat_template=named)
    assert found(folder) == []


def test_adapters_without_a_tokenizer_use_that_of_their_base(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    assert found(adapter_folder(tmp_path / "adapter", base), base) == []


def _with_new_token(folder: Path, base: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 258, "content": "<t>"})
    path.write_text(json.dumps(tokenizer))


def test_l09_new_tokens_within_the_base_s_rows_are_untrained_too(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base)
    _with_new_token(adapter, base)
    assert found(adapter, base) == [Cause.EMBEDDINGS_UNTRAINED]


def test_a_placeholder_for_pictures_needs_no_row(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    added = tokenizer["added_tokens"]
    added.append(added[0] | {"id": 259, "content": "<image_soft_token>"})
    path.write_text(json.dumps(tokenizer))
    assert found(folder) == []
    added.append(added[0] | {"id": 260, "content": "<tool>"})
    path.write_text(json.dumps(tokenizer))
    assert found(folder) == [Cause.TOKEN_OUTSIDE_EMBEDDING]


@pytest.mark.parametrize("model", ["list", "mapping"])
def test_a_vocabulary_may_be_a_list(tmp_path: Path, model: str) -> None:
    folder = model_folder(tmp_path / "model", chat=False)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    if model == "list":
        ordered = sorted(vocab, key=lambda token: vocab[token])
        tokenizer["model"] = {"type": "Unigram", "vocab": [[token, -1.0] for token in ordered]}
    path.write_text(json.dumps(tokenizer))
    facts = read_folder(folder)
    assert len(facts.vocabulary) == 259
    assert facts.token_of(TURN_END) == "<|im_end|>"
