"""What is exported of adapters on a model in 4 bits is the model that they were trained on."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from tests.export.peft_models import adapted, base_folder, logits
from tests.training.jobs import STATE

from headway.base.pulse import Pulse
from headway.export.reading.as_trained import AS_TRAINED, folder_as_trained
from headway.export.request import ExportOptions, ExportRequest
from headway.export.source import open_source
from headway.model.frozen_weights import from_folder_in_4bit
from headway.model.load import from_folder
from headway.runs.checkpoint_state import FILE
from headway.training.weights.initial_weights import load_folder


def test_the_base_is_written_as_it_was_below_its_adapters(tmp_path: Path) -> None:
    base, made = base_folder(tmp_path / "base"), tmp_path / "made"
    made.mkdir()
    folder_as_trained(base, made, Pulse(), trust_remote_code=False)
    before, after = (load_file(one / "model.safetensors") for one in (base, made))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert changed == {name for name in before if "_proj" in name}
    in_4bit = from_folder_in_4bit(base, trust_remote_code=False)
    assert torch.equal(logits(from_folder(made, trust_remote_code=False)), logits(in_4bit))
    assert (made / "tokenizer.json").is_file()


@pytest.mark.parametrize("in_4bit", [True, False])
def test_adapters_are_merged_into_what_they_were_trained_on(tmp_path: Path, in_4bit: bool) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter")
    state = msgspec.to_builtins(STATE) | {"load_in_4bit": in_4bit}
    (adapters / FILE).write_text(json.dumps(state))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    asked = ExportRequest(str(adapters), str(scratch / "out"), ExportOptions("hf"))
    source = open_source(asked, scratch, Pulse())
    assert source.dequantized == (AS_TRAINED if in_4bit else "")
    told = [finding.what for finding in source.findings]
    assert (f"the weights were dequantized from {AS_TRAINED}" in told) == in_4bit
    trained = load_folder(adapters, base=base).eval()  # as chat and eval load it
    assert torch.allclose(logits(source.load_model()), logits(trained), atol=1e-5)
    merged = {name: tensor.clone() for name, tensor in source.read_tensors()}
    plain = from_folder(source.whole, trust_remote_code=False)
    plain.load_state_dict(merged, strict=False)
    assert torch.allclose(logits(plain), logits(trained), atol=1e-4)
