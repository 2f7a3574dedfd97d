"""Checkpoint files: snapshot, writing and loading.

A checkpoint is an ordinary transformers folder with three more files: headway.json (the state of
the run), optimizer.safetensors (the moments) and manifest.json (size and hash of every file,
written last).
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headway.base.errors import Cause, MachineError, Remedy, UsageError
from headway.base.files import Manifest, delete_folder, write_folder
from headway.data.examples import tokenizer_files
from headway.model.lazy_weights import StoredTensors
from headway.model.load import is_adapter, is_out_of_memory, load_tensors, put_weights
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import MOMENTS
from headway.training.optimizer import moments, without_common_counts
from headway.training.weights.host_copies import HostCopies, copies_from


class Snapshot:
    """A copy of a job's weights and moments, taken in one go and written later.

    Making one touches all of its memory, which takes much longer than a copy into it, so it is
    made once and reused.

    Args:
        model: its weights are copied; with adapters on a frozen model, only the adapters.
        optimizer: its moments are copied.
        parameters: the trainable ones by name.
        host: makes the copies; if not given, what fits their device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
        host: HostCopies | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._parameters = dict(parameters)
        self._host = host or copies_from(next(iter(self._parameters.values())).device)
        self._holds_back = False  # the next update, until copies are made
        self._weights: dict[str, Tensor] = {}
        self._copied: list[str] = []  # tied weights share one copy
        copies: dict[tuple[int, torch.Size], Tensor] = {}
        for name, tensor in self._live_weights().items():
            storage = (tensor.data_ptr(), tensor.shape)
            if storage not in copies:
                copies[storage] = self._host.memory(tensor)
                self._copied.append(name)
            self._weights[name] = copies[storage]
        live = self._live_moments()
        self._memory = {name: self._host.memory(tensor) for name, tensor in live.items()}
        self._moments: dict[str, Tensor] = {}

    def take(self) -> None:
        """Copy the current state, between two steps; on a GPU, only begin to."""
        if not self._holds_back:  # not earlier: in another thread, a step may be under way
            self._optimizer.register_step_pre_hook(lambda *_: self._host.hold_back())
            self._holds_back = True
        with torch.no_grad():
            weights, live = self._live_weights(), self._live_moments()
            for name in live.keys() - self._memory.keys():  # they got their first gradient later
                self._memory[name] = self._host.memory(live[name])
            self._moments = {name: self._memory[name] for name in live}
            self._host.begin(
                [self._weights[name] for name in self._copied] + [*self._moments.values()],
                [weights[name] for name in self._copied] + [*live.values()],
            )

    def write(
        self,
        final: Path,
        state: CheckpointState,
        tokenizer: Path,
        trainer_state: Mapping[str, Any],
    ) -> Manifest:
        """Write one checkpoint, durably, and read it back.

        Args:
            final: the folder's name, checkpoint-N.
            state: headway.json.
            tokenizer: a folder with the tokenizer's files.
            trainer_state: trainer_state.json.

        Raises:
            MachineError: it could not be written or did not read back, or a number is not finite.
        """
        self._host.wait()
        self._refuse_non_finite(final)

        def fill(folder: Path) -> None:
            write_model_files(self._model, folder, dict(self._weights))
            saved = without_common_counts(self._moments, state.optimizer_steps)
            save_file(saved, folder / MOMENTS)

        return write_checkpoint(final, fill, state, tokenizer, trainer_state)

    def _live_weights(self) -> dict[str, Tensor]:
        weights = self._model.state_dict()
        if hasattr(self._model, "peft_config"):
            return {name: weights[name] for name in self._parameters}
        return weights

    def _live_moments(self) -> dict[str, Tensor]:
        return moments(self._optimizer, self._parameters)

    def _refuse_non_finite(self, final: Path) -> None:
        # numpy uses this thread only; torch would take cores from the training step.
        numbers = {**self._weights, **self._moments}
        bad = [name for name, t in numbers.items() if not np.isfinite(t.numpy()).all()]
        if bad:
            raise not_finite(final.name, bad)


def write_checkpoint(
    final: Path,
    write: Callable[[Path], None],
    state: CheckpointState,
    tokenizer: Path,
    trainer_state: Mapping[str, Any],
) -> Manifest:
    """Write a checkpoint's folder, durably, and read it back.

    Args:
        final: the folder's name, checkpoint-N.
        write: writes model and moments into the folder that it is given.
        state: headway.json.
        tokenizer: a folder with the tokenizer's files.
        trainer_state: trainer_state.json.

    Raises:
        MachineError: it could not be written or did not read back.
    """
    if final.exists():
        delete_folder(final)  # it did not verify: a verified checkpoint is never written again

    def fill(folder: Path) -> None:
        write(folder)
        for name in tokenizer_files.FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, folder / name)
        _write_json(folder / "trainer_state.json", trainer_state)
        _write_json(folder / "headway.json", msgspec.to_builtins(state))

    return write_folder(final, fill)


def write_model_files(model: nn.Module, folder: Path, weights: dict[str, Tensor]) -> None:
    """Write a model's configuration and weights, or those of its adapters.

    Args:
        model: with or without adapters.
        folder: gets the files.
        weights: by name; without any, only the configuration is written.
    """
    plain = cast("Any", model)
    if hasattr(model, "peft_config"):
        plain.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        if plain.generation_config is not None:  # where to stop; PEFT leaves it to the base
            plain.generation_config.save_pretrained(folder)
    else:
        plain.save_pretrained(folder, state_dict=weights)


def not_finite(name: str, bad: Sequence[str]) -> MachineError:
    """The refusal to save weights that are not finite.

    Args:
        name: of the checkpoint.
        bad: names of tensors.
    """
    return MachineError(
        f"{name} was not written: weights are not finite",
        cause=Cause.WEIGHTS_NOT_FINITE,
        have=f"NaN or Inf in {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else ""),
        need="finite weights; updates are checked before they are applied",
        remedies=(Remedy("the same command again", "resumes from the checkpoint before"),),
    )


def load_moments(checkpoint: Path) -> dict[str, Tensor]:
    """The moments of a checkpoint, by name; empty if it has none."""
    from headway.training.weights.sharded_moments import has_sharded_moments, read_moments

    if has_sharded_moments(checkpoint):
        return read_moments(checkpoint)
    path = checkpoint / MOMENTS
    return load_tensors(path) if path.is_file() else {}


def stored_parameters(
    checkpoint: Path, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint under the names of parameters; None if some are not there.

    Args:
        checkpoint: written by Headway: its numbers are fp32.
        parameters: by name.
    """
    stored = StoredTensors(checkpoint)
    if not parameters.keys() <= stored.keys():
        return None
    found = {name: stored[name] for name in parameters}
    are_alike = all(found[name].shape == p.shape for name, p in parameters.items())
    return found if are_alike else None


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights into a model of the same shape, adapters or all.

    Raises:
        MachineError: names or shapes differ.
    """
    if is_adapter(checkpoint):
        return _load_adapters(model, checkpoint)
    try:
        return put_weights(model, checkpoint)
    except (UsageError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise mismatch(checkpoint, str(error).splitlines()[0]) from error


def _load_adapters(model: nn.Module, checkpoint: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    tensors = load_tensors(checkpoint / "adapter_model.safetensors")
    own = get_peft_model_state_dict(cast("Any", model), save_embedding_layers=False)
    differing = sorted(tensors.keys() ^ own.keys())
    if differing:
        have = f"{len(differing)} tensors that only one of them has, such as {differing[0]}"
        raise mismatch(checkpoint, have)
    set_peft_model_state_dict(cast("Any", model), tensors)


def mismatch(checkpoint: Path, have: str) -> MachineError:
    """The refusal of a checkpoint of another model."""
    return MachineError(
        f"{checkpoint.name} does not match this model",
        cause=Cause.CHECKPOINT_MISMATCH,
        have=have,
        need="the tensors of this run's model",
        remedies=(Remedy("--fresh", "start this run over"),),
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
