"""A fresh process opens the folder as anybody does, and answers what it is asked."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.export.folders import DOCUMENT_END, TURN_END, adapter_folder, model_folder

from headway.base.errors import Cause, UsageError
from headway.data.examples import tokenizer as tokenizers
from headway.export.hf.probes import MESSAGES, NASTY_TEXT, logits_of, loss_of
from headway.export.hf.reload import Reloaded, ReloadRequest
from headway.model.load import from_folder
from headway.supervise.request_process import ask_child

ROWS = ((5, 6, 7, 8), (9, 10, 11))


def reloaded(folder: Path, logits: Path, base: str = "") -> Reloaded:
    request = ReloadRequest(str(folder), ROWS, NASTY_TEXT, MESSAGES, str(logits), base)
    return ask_child(
        "headway.export.hf.reload", request, Reloaded, lambda *_: None, doing="opening the export"
    )


def test_x03_it_answers_as_the_model_does(tmp_path: Path, runtime: Path) -> None:
    folder = model_folder(tmp_path / "model")
    found = reloaded(folder, tmp_path / "logits.safetensors")
    expected = logits_of(from_folder(folder, trust_remote_code=False).eval(), ROWS)
    logits = load_file(tmp_path / "logits.safetensors")["logits"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)
    assert found.loss == pytest.approx(loss_of(expected, ROWS), abs=2e-5)
    tokenizer = tokenizers.load(folder)
    assert found.text_ids == tuple(tokenizer.encode([NASTY_TEXT])[0].tolist())
    assert found.end_ids == (TURN_END, DOCUMENT_END)
    assert "Paris." in found.chat


def test_x03_adapters_that_miss_a_tensor_are_refused_there(tmp_path: Path, runtime: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", base, target_modules=["q_proj", "k_proj"])
    with pytest.raises(UsageError) as refused:
        reloaded(adapter, tmp_path / "logits.safetensors", str(base))
    assert refused.value.cause is Cause.WEIGHTS_MISSING
