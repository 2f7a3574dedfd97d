"""Weights in 4 and 8 bits, as bitsandbytes stores them, come back as near as their codes allow."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.folders import change, model_folder

from headway.base.errors import Cause, UsageError
from headway.base.pulse import Pulse
from headway.export.reading import dequantize
from headway.export.reading.dequantize import (
    dequantize_4bit,
    dequantized_folder,
    quantization_of,
)
from headway.model.load import from_folder

# What bitsandbytes 0.50.2 made of random weights, and these weights ("original.").
STORED = load_file(Path(__file__).with_name("bitsandbytes.safetensors"))
NAMES = sorted(name.removeprefix("original.") for name in STORED if name.startswith("original."))
LINEAR = "self_attn.q_proj.weight"
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def _state_name(name: str) -> str:
    return next(one for one in STORED if one.startswith(f"{name}.quant_state"))


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_is_the_nearest_that_the_codes_allow(name: str) -> None:
    found, original = dequantize_4bit(STORED, name, _state_name(name)), STORED[f"original.{name}"]
    assert found.shape == original.shape
    assert found.dtype == torch.float32
    table = STORED[f"{name}.quant_map"].sort().values
    gap = float((table[1:] - table[:-1]).max())
    blocks = original.flatten().split(64)
    limits = torch.cat([torch.full_like(one, float(one.abs().max())) * gap / 2 for one in blocks])
    nested = 1.1 if "nested" in name else 1.0001  # the scales are rounded, too
    assert bool(((found - original).flatten().abs() <= limits * nested).all())


def _quantized(folder: Path) -> dict[str, torch.Tensor]:
    """Quantize a folder's query projections with blocks of 64 and a table of 16, plainly."""
    tensors = load_file(folder / "model.safetensors")
    table = torch.linspace(-1, 1, 16)
    rounded = dict(tensors)
    for name in [one for one in tensors if one.endswith(LINEAR)]:
        weight = tensors.pop(name)
        blocks = weight.reshape(-1, 64)
        scales = blocks.abs().amax(1)
        codes = (blocks / scales[:, None])[..., None].sub(table).abs().argmin(-1)
        rounded[name] = (table[codes] * scales[:, None]).reshape(weight.shape)
        flat = codes.flatten().to(torch.uint8)
        state = {"quant_type": "nf4", "blocksize": 64, "shape": list(weight.shape)}
        tensors |= {
            name: ((flat[::2] << 4) | flat[1::2])[:, None],
            f"{name}.absmax": scales,
            f"{name}.quant_map": table.clone(),
            f"{name}.quant_state.bitsandbytes__nf4": torch.tensor(list(json.dumps(state).encode())),
        }
    typed = {n: t.to(torch.uint8) if "quant_state" in n else t for n, t in tensors.items()}
    save_file(typed, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", quantization_config=NF4)
    return rounded


def test_a_folder_in_4_bits_becomes_one_in_fp32(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    rounded = _quantized(folder)
    assert quantization_of(folder) == "bitsandbytes nf4"
    made = tmp_path / "made"
    made.mkdir()
    assert dequantized_folder(folder, made, Pulse()) == made
    found = load_file(made / "model.safetensors")
    assert found.keys() == rounded.keys()
    for name, tensor in rounded.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert quantization_of(made) == ""
    assert from_folder(made, trust_remote_code=False) is not None


def test_a_disk_without_room_for_it_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model")
    _quantized(folder)
    needs: list[int] = []
    monkeypatch.setattr(dequantize, "check_room", lambda _, need, __: needs.append(need))
    made = tmp_path / "made"
    made.mkdir()
    dequantized_folder(folder, made, Pulse())
    size = (made / "model.safetensors").stat().st_size
    assert size <= needs[0] <= size + (1 << 20)


def test_a_folder_in_8_bits_becomes_one_in_fp32(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = f"model.layers.0.{LINEAR}"
    weight = tensors[name]
    scales = weight.abs().amax(1)
    tensors[name] = (weight / scales[:, None] * 127).round().to(torch.int8)
    tensors[name.replace("weight", "SCB")] = scales
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    quantizer = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    change(folder / "config.json", quantization_config=quantizer)
    assert quantization_of(folder) == "bitsandbytes int8"
    made = tmp_path / "made"
    made.mkdir()
    dequantized_folder(folder, made, Pulse())
    found = load_file(made / "model.safetensors")
    assert name.replace("weight", "SCB") not in found
    torch.testing.assert_close(found[name], weight, rtol=0, atol=float(scales.max()) / 250)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", None])
def test_other_quantizers_are_refused(tmp_path: Path, method: Any) -> None:
    folder = model_folder(tmp_path / "model")
    assert quantization_of(folder) == ""
    change(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(UsageError) as refused:
        quantization_of(folder)
    assert refused.value.cause is Cause.MODEL_UNSUPPORTED


@pytest.mark.parametrize("lost", [".absmax", ".quant_map", "state"])
def test_codes_without_their_tables_are_refused(tmp_path: Path, lost: str) -> None:
    folder = model_folder(tmp_path / "model")
    _quantized(folder)
    tensors = load_file(folder / "model.safetensors")
    name = f"model.layers.0.{LINEAR}"
    state = f"{name}.quant_state.bitsandbytes__nf4"
    if lost == "state":
        tensors[state] = torch.zeros(10, dtype=torch.uint8)
    else:
        del tensors[f"{name}{lost}"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    made = tmp_path / "made"
    made.mkdir()
    with pytest.raises(UsageError) as refused:
        dequantized_folder(folder, made, Pulse())
    assert refused.value.cause is Cause.WEIGHTS_DAMAGED
