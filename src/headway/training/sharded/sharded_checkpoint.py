"""Checkpoint of a model in shards: written and read by all workers, part by part.

The weights are those of an ordinary transformers folder: each worker of the first group writes a
file with some of the tensors, gathered one at a time. The moments stay in shards.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from headway.base.disk import disk_errors, errors_from_rust
from headway.base.files import Manifest
from headway.model.lazy_weights import StoredTensors
from headway.model.load import is_adapter
from headway.model.safetensors_file import SafetensorsFile
from headway.model.safetensors_index import INDEX
from headway.model.sharded import gathered, like, local
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import SHARDED_MOMENTS
from headway.training.distributed.messages import JointPart
from headway.training.optimizer import moments, without_common_counts
from headway.training.sharded.sharded_team import ShardedTeam
from headway.training.sharded.sharding import Sharding
from headway.training.weights.checkpoint import (
    load_moments,
    mismatch,
    not_finite,
    write_checkpoint,
    write_model_files,
)
from headway.training.weights.sharded_moments import (
    has_sharded_moments,
    read_moments,
    write_counts,
    write_parts,
)

_PARTS = ".checkpoint-parts"  # of the run's folder; what a killed run leaves there is deleted


class ShardedSnapshot:
    """The state of a job as files, which all workers write together; see `Snapshot`.

    Args:
        run: its folder.
        team: the workers.
        sharding: where the shards are.
        model: its weights are written; with adapters on a frozen model, only the adapters.
        optimizer: its moments are written.
        parameters: the trainable ones by name.
    """

    def __init__(
        self,
        run: Path,
        team: ShardedTeam,
        sharding: Sharding,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
    ) -> None:
        self._parts = run / _PARTS
        self._team = team
        self._sharding = sharding
        self._model = model
        self._optimizer = optimizer
        self._parameters = dict(parameters)
        self._counts: dict[str, Tensor] = {}

    def take(self) -> None:
        """Write all parts; the other workers write theirs at the same time."""
        if dist.get_rank() == 0:
            shutil.rmtree(self._parts, ignore_errors=True)
            with disk_errors(self._parts):
                self._parts.mkdir()
        with self._team.enter(JointPart.SAVE):
            with disk_errors(self._parts), errors_from_rust():
                self._write_parts()
            dist.barrier()

    def write(
        self,
        final: Path,
        state: CheckpointState,
        tokenizer: Path,
        trainer_state: Mapping[str, Any],
    ) -> Manifest:
        """Make the parts a checkpoint, durably, and read it back; see `Snapshot.write`."""

        def fill(folder: Path) -> None:
            for part in self._parts.iterdir():
                part.rename(folder / part.name)
            self._parts.rmdir()
            write_counts(
                folder / SHARDED_MOMENTS, without_common_counts(self._counts, state.optimizer_steps)
            )

        return write_checkpoint(final, fill, state, tokenizer, trainer_state)

    def _write_parts(self) -> None:
        saved = moments(self._optimizer, self._parameters)
        self._counts = {n: t.clone() for n, t in saved.items() if n.startswith("step/")}
        parts = {name: t for name, t in saved.items() if name not in self._counts}
        self._refuse_non_finite({**dict(self._model.named_parameters()), **parts})
        if hasattr(self._model, "peft_config"):
            adapters = {n: gathered(p.detach()).cpu() for n, p in self._parameters.items()}
            if dist.get_rank() == 0:
                write_model_files(self._model, self._parts, adapters)
        else:
            if dist.get_rank() == 0:
                write_model_files(self._model, self._parts, {})
            self._write_weights()
        write_parts(self._parts / SHARDED_MOMENTS, parts)

    def _write_weights(self) -> None:
        """Write the tensors, each worker of the first group a file with its share of them."""
        tensors = _tensors_of(self._model)
        shares = _shares(tensors, self._sharding.mesh.size(1))
        names = [
            f"model-{n:05d}-of-{len(shares):05d}.safetensors" for n in range(1, len(shares) + 1)
        ]
        rank = dist.get_rank()  # those of the first group come first
        failure: OSError | None = None
        for writer, (file, share) in enumerate(zip(names, shares, strict=True)):
            is_own = rank == writer
            try:
                made = SafetensorsFile(self._parts / file, share) if is_own else None
            except OSError as error:
                made, failure = None, error
            for name in share:
                whole = gathered(tensors[name].detach())
                try:
                    if made:
                        made.add(name, whole)
                except OSError as error:  # the others are still to be served
                    made, failure = None, error
            if made:
                made.__exit__(None, None, None)
        if failure:
            raise failure
        if rank == 0:
            _write_index(self._parts / INDEX, dict(zip(names, shares, strict=True)))

    def _refuse_non_finite(self, tensors: Mapping[str, Tensor]) -> None:
        bad = [n for n, t in tensors.items() if not bool(local(t.detach()).isfinite().all())]
        if bad:
            raise not_finite("the checkpoint", bad)


def load_sharded_weights(model: nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights into shards, one tensor at a time.

    Raises:
        MachineError: names or shapes differ.
    """
    stored = StoredTensors(checkpoint)
    names = {name: name for name in _tensors_of(model)}
    if is_adapter(checkpoint):
        names = {stored_name(n): n for n, p in model.named_parameters() if p.requires_grad}
    if unlike := sorted(names.keys() ^ set(stored)):
        raise mismatch(checkpoint, f"{len(unlike)} tensors differ, such as {unlike[0]}")
    targets = _tensors_of(model)
    with torch.no_grad():
        for name in stored:
            target = targets[names[name]]
            whole = stored[name]
            if whole.shape != target.shape:
                raise mismatch(checkpoint, f"{name} has another shape")
            local(target).copy_(local(like(target, whole)))


def load_sharded_moments(
    checkpoint: Path, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """AdamW's moments of a checkpoint, in shards; it may have been written by a single worker."""
    if has_sharded_moments(checkpoint):
        return read_moments(checkpoint, parameters)
    whole = load_moments(checkpoint)
    return {
        name: t if name.startswith("step/") else like(parameters[name.partition("/")[2]], t)
        for name, t in whole.items()
        if name.partition("/")[2] in parameters
    }


def stored_name(name: str) -> str:
    """The name of an adapter's weight in its file, where PEFT leaves out the adapter's own."""
    return name.replace(".default.", ".")


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What a model's file has: weights, tied ones once, and the buffers that are saved."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    others = dict(model.named_parameters(remove_duplicate=False)).keys()
    state: dict[str, Any] = cast("Any", model).state_dict()
    return weights | {name: state[name] for name in state.keys() - others}


def _shares(tensors: Mapping[str, Tensor], num: int) -> list[dict[str, tuple[int, ...]]]:
    """Names and shapes of neighboring tensors, cut into at most so many shares of equal size."""
    total, before = sum(t.numel() for t in tensors.values()), 0
    shares: list[dict[str, tuple[int, ...]]] = [{} for _ in range(num)]
    for name, tensor in tensors.items():
        shares[min(num - 1, num * before // max(total, 1))][name] = tuple(tensor.shape)
        before += tensor.numel()
    return [share for share in shares if share]


def _write_index(path: Path, files: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    sizes = [torch.Size(shape).numel() for share in files.values() for shape in share.values()]
    index = {
        "metadata": {"total_size": 4 * sum(sizes)},
        "weight_map": {name: file for file, share in files.items() for name in share},
    }
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
