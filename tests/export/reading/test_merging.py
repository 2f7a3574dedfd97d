"""Adapters of every kind, merged: the same answers as beside their layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.folders import adapter_folder
from tests.export.peft_models import KINDS, NEEDS_BIAS, adapted, base_folder, logits

from headway.base.errors import Cause, UsageError
from headway.export.reading import merging
from headway.export.reading.adapters import put_adapters
from headway.export.reading.merging import MergedSource, merged_source
from headway.export.reading.tensor_source import TensorSource
from headway.model.load import from_config, from_folder

ONE_AT_A_TIME = ("plain", "every layer", "rank-stabilized", "ranks of their own")


def merged(base: Path, adapters: Path, scratch: Path) -> TensorSource:
    scratch.mkdir()
    return merged_source(base, adapters, scratch, trust_remote_code=False)


def loaded(base: Path, scratch: Path, tensors: dict[str, torch.Tensor]) -> Any:
    """A model with these tensors, and with the head that merging left it."""
    folder = scratch if (scratch / "config.json").is_file() else base
    model: Any = from_config(json.loads((folder / "config.json").read_text()), 1)
    lost = model.load_state_dict(tensors, strict=False)
    assert lost.unexpected_keys == []
    assert set(lost.missing_keys) <= {"lm_head.weight"}, "tied"
    return model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_x02_merged_adapters_answer_as_they_did_beside_their_layers(
    tmp_path: Path, kind: str, *, tied: bool
) -> None:
    base = base_folder(tmp_path / "base", tied=tied, bias=kind in NEEDS_BIAS)
    adapters = adapted(base, tmp_path / "adapter", **KINDS[kind])
    plain = from_folder(base, trust_remote_code=False)
    before = logits(plain)
    expected = logits(put_adapters(plain, adapters))
    assert (expected - before).abs().max() > 0.01, "they change something"
    source = merged(base, adapters, tmp_path / "scratch")
    assert isinstance(source, MergedSource) == (kind in ONE_AT_A_TIME or kind in NEEDS_BIAS)
    tensors = dict(source.read())
    assert {name: tuple(t.shape) for name, t in tensors.items()} == source.shapes
    found = logits(loaded(base, tmp_path / "scratch", tensors))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_only_one_layer_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_folder(tmp_path / "base")
    source = merged(base, adapted(base, tmp_path / "adapter"), tmp_path / "scratch")
    assert isinstance(source, MergedSource)
    for name, _ in source.read():
        real = [p for p in source.base_parameters() if p.untyped_storage().nbytes() > 4]
        assert real == [], f"after {name}, all are placeholders again"


def test_tensors_can_be_read_twice(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    source = merged(base, adapted(base, tmp_path / "adapter"), tmp_path / "scratch")
    first, second = dict(source.read()), dict(source.read())
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_x02_a_base_in_bf16_is_merged_in_fp32(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter")
    file = base / "model.safetensors"
    save_file({n: t.bfloat16() for n, t in load_file(file).items()}, file, {"format": "pt"})
    expected = logits(put_adapters(from_folder(base, trust_remote_code=False), adapters))
    source = merged(base, adapters, tmp_path / "scratch")
    tensors = dict(source.read())
    name = "model.layers.0.self_attn.q_proj.weight"
    assert tensors[name].dtype == torch.float32
    assert tensors["model.norm.weight"].dtype == torch.bfloat16
    found = logits(loaded(base, tmp_path / "scratch", {n: t.float() for n, t in tensors.items()}))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    rounded = {n: t.bfloat16().float() for n, t in tensors.items()}
    off = logits(loaded(base, tmp_path / "scratch", rounded)) - expected
    assert off.abs().max() > 1e-3, "what a merge in bf16 would lose"


def test_weights_that_are_not_finite_are_not_merged(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapter", base)
    file = adapters / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"][0] = torch.nan
    save_file(tensors, file)
    source = merged(base, adapters, tmp_path / "scratch")
    with pytest.raises(UsageError) as refused:
        dict(source.read())
    assert refused.value.cause is Cause.MODEL_INVALID


def test_weights_under_other_names_are_merged_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter")
    expected = dict(merged(base, adapters, tmp_path / "one").read())

    def refuse(*_: object, **__: object) -> None:
        raise UsageError("other names", cause=Cause.MODEL_UNSUPPORTED)

    monkeypatch.setattr(merging, "MergedSource", refuse)
    found = dict(merged(base, adapters, tmp_path / "two").read())
    assert found.keys() == expected.keys()
    assert all(torch.allclose(t, expected[n], atol=1e-6) for n, t in found.items())
