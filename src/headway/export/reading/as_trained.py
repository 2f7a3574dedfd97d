"""Base of adapters that were trained on it in 4 bits: the weights behind these codes, in fp32."""

import shutil
from pathlib import Path

from headway.base.pulse import Phase, Pulse
from headway.data.examples import tokenizer_files
from headway.export.output import check_room
from headway.model.frozen_weights import from_folder_in_4bit
from headway.model.quantized.layers import dequantize_linears
from headway.model.safetensors_file import num_bytes
from headway.model.safetensors_index import stored_tensors

AS_TRAINED = "bitsandbytes nf4"  # what the weights were in while the adapters learned
_HEADER_BYTES = 1 << 20  # at most


def folder_as_trained(folder: Path, made: Path, pulse: Pulse, *, trust_remote_code: bool) -> Path:
    """Write a model as it was below its adapters: rounded to 4 bits, in fp32; returns its folder.

    Args:
        folder: of the model.
        made: an empty folder.
        pulse: shows that it is converted.
        trust_remote_code: run code that comes with the model.

    Raises:
        UsageError: the model does not load.
        MachineError: the disk is too small.
    """
    need = sum(num_bytes(shape) for _, shape in stored_tensors(folder).values()) + _HEADER_BYTES
    check_room(made, need, f"{folder.name} in fp32")
    with pulse.phase(Phase.CONVERTING_MODEL):
        model = from_folder_in_4bit(folder, trust_remote_code=trust_remote_code)
        dequantize_linears(model)
        model.save_pretrained(made)  # pyright: ignore[reportCallIssue]
    for name in (*tokenizer_files.FILES, "generation_config.json"):
        if (folder / name).is_file() and not (made / name).is_file():
            shutil.copyfile(folder / name, made / name)
    return made
