"""What is exported, opened: a whole model or adapters, with all that writers need to know."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.export.folders import DOCUMENT_END, TURN_END, adapter_folder, change, model_folder
from tests.export.peft_models import KINDS, adapted, base_folder, logits

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.export.request import ExportOptions, ExportRequest
from headway.export.source import ExportSource, open_source
from headway.model.load import from_folder
from headway.runs.base_model import weights_hash


def opened(folder: Path, scratch: Path, **request: Any) -> ExportSource:
    scratch.mkdir()
    asked = ExportRequest(str(folder), str(scratch / "out"), ExportOptions("hf"), **request)
    return open_source(asked, scratch, Pulse())


def test_a_whole_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    source = opened(folder, tmp_path / "scratch")
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in source.read_tensors())
    assert source.shapes.keys() == stored.keys()
    assert source.sha256 == weights_hash(folder)
    assert (source.base, source.dequantized, source.findings) == (None, "", ())
    assert source.config["tie_word_embeddings"] is True
    assert source.num_embeddings == 259
    assert torch.equal(
        logits(source.load_model()), logits(from_folder(folder, trust_remote_code=False))
    )


def test_t07_the_generation_config_has_every_end_of_turn_token(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    change(folder / "generation_config.json", eos_token_id=DOCUMENT_END, temperature=0.7)
    change(folder / "config.json", eos_token_id=DOCUMENT_END)
    source = opened(folder, tmp_path / "scratch")
    assert sorted(source.end_ids) == [DOCUMENT_END, TURN_END]
    assert source.generation["eos_token_id"] == list(source.end_ids)
    assert source.generation["temperature"] == 0.7
    (folder / "generation_config.json").unlink()
    alone = opened(folder, tmp_path / "again")
    assert sorted(alone.generation["eos_token_id"]) == [DOCUMENT_END, TURN_END]


def test_adapters_are_their_base_with_what_they_change(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter")
    source = opened(adapters, tmp_path / "scratch")
    assert source.base is not None
    assert (source.base.folder, source.base.sha256) == (str(base), weights_hash(base))
    assert source.words == adapters
    stored = load_file(base / "model.safetensors")
    differing = {n for n, t in source.read_tensors() if not torch.equal(t, stored[n])}
    assert differing == {n for n in stored if "q_proj" in n or "down_proj" in n}
    model: Any = source.load_model()
    assert hasattr(model, "peft_config"), "nothing is merged into what exports are compared with"


def test_adapters_without_a_tokenizer_have_that_of_their_base(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    source = opened(adapter_folder(tmp_path / "adapter", base), tmp_path / "scratch")
    assert source.words == base
    assert set(source.end_ids) == {TURN_END, DOCUMENT_END}


def test_adapters_saved_without_a_template_get_that_of_their_base(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter")
    (adapters / "chat_template.jinja").unlink()
    source = opened(adapters, tmp_path / "scratch")
    assert source.tokenizer.chat_template == (base / "chat_template.jinja").read_text()
    assert [one.cause for one in source.findings] == [Cause.TEMPLATE_MISSING]
    assert TURN_END in source.end_ids


def test_a_run_without_a_receipt_is_exported_with_a_word_about_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "run" / "checkpoint-1")
    source = opened(folder, tmp_path / "scratch", run=str(tmp_path / "run"))
    assert [one.cause for one in source.findings] == [Cause.NO_RECEIPT]


def test_a_head_that_was_adapted_is_a_tensor_of_its_own(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", tied=True)
    adapters = adapted(base, tmp_path / "adapter", **KINDS["on the head"])
    source = opened(adapters, tmp_path / "scratch")
    assert "lm_head.weight" in source.shapes
    assert source.config["tie_word_embeddings"] is False


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(UsageError) as refused:
        opened(folder, tmp_path / "scratch")
    assert refused.value.cause in (Cause.MODEL_INVALID, Cause.TOKENIZER_NOT_FOUND)


def test_a_header_that_does_not_match_its_file_is_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    folder = model_folder(tmp_path / "model")
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for damaged in (content[:-4], content + b"\0" * 8, b"\xff" * 8 + content[8:]):
        file.write_bytes(damaged)
        with pytest.raises(UsageError) as refused:
            open_source(
                ExportRequest(str(folder), str(tmp_path), ExportOptions("hf")), tmp_path, Pulse()
            )
        assert refused.value.cause is Cause.WEIGHTS_DAMAGED
