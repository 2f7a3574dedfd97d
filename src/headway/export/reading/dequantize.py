"""Dequantization: a model whose weights are in 4 or 8 bits, written as a folder in fp32.

bitsandbytes keeps a weight as codes of a small table, each block of them with its own scale; the
scales of NF4 are often coded once more. Undoing that needs no GPU, and no bitsandbytes.

Source: https://github.com/bitsandbytes-foundation/bitsandbytes, functional.py, QuantState.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.base.pulse import Phase, Pulse
from headway.data.examples import tokenizer_files
from headway.export.output import check_room
from headway.model.lazy_weights import StoredTensors
from headway.model.model_config import CONFIG, quantizer_of, read_object
from headway.model.safetensors_file import SafetensorsFile, num_bytes
from headway.model.safetensors_index import WHOLE, stored_tensors

_QUANTIZATION = "quantization_config"
_STATE = ".quant_state.bitsandbytes__"  # behind the weight's name; then the format's name
_INT8 = "SCB"  # the scales of a weight in int8, beside it
_HEADER_BYTES = 1 << 20  # at most
_BESIDE = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".weight_format")


def quantization_of(folder: Path) -> str:
    """The number format of a folder's quantized weights; "" if they are not quantized.

    Raises:
        UsageError: it is one that cannot be undone here.
    """
    config = read_object(folder / CONFIG)
    quantizer = quantizer_of(folder, config)
    if not quantizer:
        return ""
    found = config.get(_QUANTIZATION)
    settings: Mapping[str, Any] = found if isinstance(found, dict) else {}
    if settings.get("quant_method") != "bitsandbytes":
        raise _unsupported(folder, quantizer)
    if settings.get("load_in_8bit"):
        return "bitsandbytes int8"
    return f"bitsandbytes {settings.get('bnb_4bit_quant_type', 'fp4')}"


def dequantized_folder(folder: Path, made: Path, pulse: Pulse) -> Path:
    """Write a quantized model as an fp32 one, tensor by tensor; returns its folder.

    Args:
        folder: of the quantized model.
        made: an empty folder.
        pulse: shows the progress.

    Raises:
        UsageError: the weights are not what config.json says.
        MachineError: the disk is too small.
    """
    stored = StoredTensors(folder)
    boundary = _damaged(folder)
    with boundary():
        shapes = _shapes(stored, stored_tensors(folder))
        need = sum(num_bytes(shape) for shape in shapes.values()) + _HEADER_BYTES
        check_room(made, need, f"{folder.name} in fp32")
        with (
            pulse.phase(Phase.CONVERTING_MODEL, total=len(shapes), unit="tensors"),
            SafetensorsFile(made / WHOLE, shapes) as file,
        ):
            for number, (name, tensor) in enumerate(_tensors(stored, shapes)):
                file.add(name, tensor)
                pulse.progress(number + 1)
    config = read_object(folder / CONFIG)
    config.pop(_QUANTIZATION, None)
    content = json.dumps(config | {"dtype": "float32"}, indent=2)
    (made / CONFIG).write_text(content, encoding="utf-8")
    for name in (*tokenizer_files.FILES, "generation_config.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, made / name)
    return made


def _shapes(
    stored: StoredTensors, headers: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of the whole model."""
    states = _states(headers)
    found: dict[str, tuple[int, ...]] = {}
    for name, (_, shape) in headers.items():
        if name in states:
            found[name] = tuple(_state(stored, states[name])["shape"])
        elif not _is_beside(name, headers):
            found[name] = shape
    return found


def _tensors(
    stored: StoredTensors, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Tensor]]:
    states = _states(stored)
    for name in shapes:
        scales = f"{name.removesuffix('weight')}{_INT8}"
        if name in states:
            yield name, dequantize_4bit(stored, name, states[name])
        elif scales in stored:
            yield name, stored[name].float() * stored[scales].float()[:, None] / 127
        else:
            yield name, stored[name].float()


def dequantize_4bit(stored: Mapping[str, Tensor], name: str, state_name: str) -> Tensor:
    """The fp32 weight behind 4-bit codes.

    Args:
        stored: the tensors of the file.
        name: of the codes: two in a byte, the first one in its upper half.
        state_name: of the tensor with JSON about them.
    """
    state = _state(stored, state_name)
    table = stored[f"{name}.quant_map"].float()
    scales = stored[f"{name}.absmax"]
    if f"{name}.nested_absmax" in stored:
        nested = stored[f"{name}.nested_quant_map"].float()[scales.long()]
        nested = _scaled(nested, stored[f"{name}.nested_absmax"], state["nested_blocksize"])
        scales = nested + state["nested_offset"]
    packed = stored[name].flatten()
    codes = torch.stack((packed >> 4, packed & 0xF), dim=1).flatten()
    shape = tuple(state["shape"])
    num = torch.Size(shape).numel()
    return _scaled(table[codes.long()[:num]], scales, state["blocksize"]).reshape(shape)


def _scaled(values: Tensor, scales: Tensor, block: int) -> Tensor:
    """Values, each times the scale of its block."""
    return values * scales.float().repeat_interleave(block)[: len(values)]


def _states(names: Mapping[str, object]) -> dict[str, str]:
    """Name of a weight in 4 bits -> name of the JSON about it."""
    return {name.partition(_STATE)[0]: name for name in names if _STATE in name}


def _state(stored: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    return msgspec.json.decode(bytes(stored[name].tolist()), type=dict[str, Any])


def _is_beside(name: str, names: Mapping[str, object]) -> bool:
    """Whether a tensor belongs to the codes of another one."""
    if _STATE in name:
        return True
    if name.endswith(_INT8):
        return f"{name.removesuffix(_INT8)}weight" in names
    return name.endswith(_BESIDE)


def _unsupported(folder: Path, quantizer: str) -> Refusal:
    return UsageError(
        f"the weights in {folder} are quantized in a way that is not undone here",
        cause=Cause.MODEL_UNSUPPORTED,
        have=f"quantization: {quantizer}",
        need="weights in float32, bfloat16, float16, or in bitsandbytes' 4 or 8 bits",
        remedies=(Remedy("--model DIR", "the folder of the model before it was quantized"),),
    )


def _damaged(folder: Path) -> Boundary:
    return Boundary(
        f"the quantized weights in {folder} cannot be read",
        cause=Cause.WEIGHTS_DAMAGED,
        need="weights with their tables and scales, as bitsandbytes saves them",
        remedies=(Remedy("copy the folder again", "from where the model came from"),),
        passes=lambda error: isinstance(error, OSError),
    )
