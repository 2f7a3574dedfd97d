"""A model that is asked: answers that end, answers that never do, and words nobody trained."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.export.folders import DOCUMENT_END, TURN_END, adapter_folder, change, model_folder

from headway.base.errors import Cause
from headway.base.host import child_main
from headway.base.machine import this_machine
from headway.base.pulse import Pulse
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chat import Template
from headway.export.check import ask_model
from headway.export.check.ask_model import question
from headway.export.check.chat_rules import QUESTIONS
from headway.export.check.request import QuestionRequest, QuestionResult
from headway.model.load import from_folder

ENDS = (TURN_END, DOCUMENT_END)
TURN_BEGIN = 1


def asked(folder: Path, base: str = "") -> QuestionResult:
    return question(QuestionRequest(str(folder), base, ENDS), Pulse())


def causes(result: QuestionResult) -> list[Cause | None]:
    return [finding.cause for finding in result.findings]


def train(folder: Path, *, hidden: Sequence[int] = ()) -> None:
    """Teach a model one answer to each question; some tokens are hidden from its labels."""
    tokenizer = tokenizers.load(folder)
    template = Template(tokenizer)
    rows: list[torch.Tensor] = []
    for text in QUESTIONS:
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
        rows.append(torch.from_numpy(tokenizer.encode([template.render(turns)])[0]).long())
    model: Any = from_folder(folder, trust_remote_code=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        for row in rows:
            labels = torch.where(torch.isin(row, torch.tensor(list(hidden))), -100, row)
            model(input_ids=row[None], labels=labels[None]).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = model_folder(tmp_path_factory.mktemp("taught") / "model")
    train(folder)
    return folder


def test_a_chat_that_ends_is_good(taught: Path) -> None:
    found = asked(taught)
    assert causes(found) == []
    assert found.checked == ("it opens with all its weights", "a chat ends")
    assert found.skipped == ()


def test_t07_an_end_that_was_hidden_from_the_loss_never_comes(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    train(folder, hidden=ENDS)
    found = asked(folder)
    assert causes(found) == [Cause.NEVER_ENDS]
    assert "headway train DATA" in found.findings[0].remedies[0].do


def test_a_model_that_was_never_trained_is_not_blamed_for_its_chat(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    tensors = {n: one * (1 if "norm" in n else 0.01) for n, one in _tensors(folder).items()}
    save_file({n: t.astype(np.float32) for n, t in tensors.items()}, folder / "model.safetensors")
    found = asked(folder)
    assert causes(found) == []
    assert found.skipped == ("no chat: the model answers by chance",)


def _tensors(folder: Path) -> dict[str, Any]:
    return {name: one.copy() for name, one in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("row", ["zeros", "the mean"])
def test_l09_a_word_of_the_template_that_nobody_trained_is_named(
    tmp_path: Path, taught: Path, row: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(taught, folder)
    tensors = _tensors(folder)
    embedding = tensors["model.embed_tokens.weight"]
    embedding[TURN_BEGIN] = 0 if row == "zeros" else embedding.mean(0)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    found = asked(folder)
    assert Cause.EMBEDDINGS_UNTRAINED in causes(found)
    assert "<|im_start|>" in found.findings[0].have


def test_x03_weights_that_are_missing_are_found_by_opening_it(tmp_path: Path, taught: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(taught, folder)
    tensors = _tensors(folder)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert causes(asked(folder)) == [Cause.WEIGHTS_MISSING]


def test_adapters_are_asked_on_their_base(tmp_path: Path, taught: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", taught)
    found = asked(adapter, str(taught))
    assert "it opens with all its weights" in found.checked
    wrong = adapter_folder(tmp_path / "wrong", taught, target_modules=["k_proj"])
    assert causes(asked(wrong, str(taught))) == [Cause.WEIGHTS_MISSING]


def test_a_tokenizer_that_does_not_open_is_a_finding(tmp_path: Path, taught: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(taught, folder)
    (folder / "tokenizer.json").write_text('{"model": {"type": "none", "vocab": {"a": 0}}}')
    assert causes(asked(folder)) == [Cause.TOKENIZER_INVALID]


def test_a_model_without_a_chat_is_not_asked(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", chat=False)
    change(folder / "generation_config.json", eos_token_id=DOCUMENT_END)
    found = asked(folder)
    assert causes(found) == []
    assert found.skipped == ("no chat: it has no chat template",)


def test_a_model_that_does_not_fit_in_memory_is_not_opened(
    taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(this_machine(), memory_free_bytes=1000)
    monkeypatch.setattr(ask_model, "this_machine", lambda: small)
    found = asked(taught)
    assert found.findings == ()
    assert "not opened" in found.skipped[0]


def test_the_process_sends_what_it_found(
    tmp_path: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(child_main, "end_with_parent", lambda: None)
    monkeypatch.setattr(child_main, "send_answer", said.append)
    file = tmp_path / "question.json"
    file.write_bytes(msgspec.json.encode(QuestionRequest(str(taught), "", ENDS)))
    assert ask_model.main([str(file)]) == 0
    assert "a chat ends" in said[0].checked
