"""Snapshot and save beside the loop; load.

A checkpoint is an ordinary transformers folder with three files more: headway.json (where the
run stands), optimizer.safetensors (AdamW's moments) and manifest.json (size and hash of every
file, written last).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headway.base.errors import MachineError, Remedy, UsageError
from headway.base.files import Manifest, write_folder
from headway.data import tokenizer as tokenizer_files
from headway.model.load import is_adapter, put_weights
from headway.trainer.folder import State
from headway.trainer.optim import moments


def save_checkpoint(
    final: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    state: State,
    tokenizer: Path,
) -> Manifest:
    """Write one checkpoint, durably, and read it back.

    Args:
        final: the folder's name, checkpoint-N.
        model: its weights are written as fp32.
        optimizer: its moments are written.
        parameters: the trainable ones by name.
        state: headway.json.
        tokenizer: a folder with the tokenizer's files.

    Raises:
        MachineError: it could not be written or did not read back; or a weight is not finite.
    """
    _refuse_non_finite(parameters, final)
    if final.exists():
        shutil.rmtree(final)  # one that did not verify: a verified one is never written again

    def fill(folder: Path) -> None:
        cast("Any", model).save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        for name in tokenizer_files.FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, folder / name)
        tensors = {
            k: v.detach().cpu().contiguous() for k, v in moments(optimizer, parameters).items()
        }
        save_file(tensors, folder / "optimizer.safetensors")
        _write_json(folder / "trainer_state.json", _trainer_state(state))
        _write_json(folder / "headway.json", msgspec.to_builtins(state))

    return write_folder(final, fill)


def load_moments(checkpoint: Path) -> dict[str, Tensor]:
    """AdamW's moments of a checkpoint; empty where it has none."""
    path = checkpoint / "optimizer.safetensors"
    return load_file(path) if path.is_file() else {}


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Put a checkpoint's weights into a model of the same shape, adapters or whole.

    Raises:
        MachineError: names or shapes do not fit.
    """
    if is_adapter(checkpoint):
        return _put_adapters(model, checkpoint)
    try:
        return put_weights(model, checkpoint)
    except (UsageError, RuntimeError) as error:
        raise _other_weights(checkpoint, str(error).splitlines()[0]) from error


def _put_adapters(model: nn.Module, checkpoint: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    tensors = load_file(checkpoint / "adapter_model.safetensors")
    own = get_peft_model_state_dict(cast("Any", model), save_embedding_layers=False)
    strangers = sorted(tensors.keys() ^ own.keys())
    if strangers:
        have = f"{len(strangers)} tensors are in one of them alone, {strangers[0]} among them"
        raise _other_weights(checkpoint, have)
    set_peft_model_state_dict(cast("Any", model), tensors)


def _other_weights(checkpoint: Path, have: str) -> MachineError:
    return MachineError(
        f"{checkpoint.name} holds other weights than this model has",
        have=have,
        need="the tensors of this run's model",
        remedies=(Remedy("--fresh", "start this run over"),),
    )


def _refuse_non_finite(parameters: Mapping[str, nn.Parameter], final: Path) -> None:
    bad = [name for name, p in parameters.items() if not bool(torch.isfinite(p).all())]
    if bad:
        raise MachineError(
            f"{final.name} was not written: weights are not finite",
            have=f"NaN or Inf in {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else ""),
            need="finite weights; updates are checked before they are applied",
            remedies=(Remedy("the same command again", "goes on from the checkpoint before"),),
        )


def _trainer_state(state: State) -> dict[str, Any]:
    """The keys that tools for transformers' Trainer look for."""
    return {
        "epoch": state.epoch,
        "global_step": state.global_step,
        "num_input_tokens_seen": state.input_tokens,
        "log_history": [],
        "best_metric": None,
        "best_model_checkpoint": None,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
