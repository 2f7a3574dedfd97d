"""Sharded moments: AdamW's state in torch's distributed checkpoint format, in safetensors files.

Each worker writes its own parts; any number of workers reads them back. Nothing is pickled.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from headway.runs.folder import SHARDED_MOMENTS

_FILE_BYTES = 32_000_000  # of one worker's part, about
_COUNTS = "counts.safetensors"


def has_sharded_moments(checkpoint: Path) -> bool:
    """Whether a checkpoint has them."""
    return (checkpoint / SHARDED_MOMENTS).is_dir()


def write_parts(folder: Path, moments: Mapping[str, Tensor]) -> None:
    """Write this worker's parts; all workers do at the same time.

    Args:
        folder: gets the files.
        moments: by name, in shards.
    """
    files = _files_of(moments)
    writer = HuggingFaceStorageWriter(str(folder), files, save_distributed=True)
    save(dict(moments), storage_writer=writer)


def _files_of(moments: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of the file that each goes to, from 1: torch copies a file to memory first."""
    total, found = 0, dict[str, int]()
    for name, tensor in moments.items():
        found[name] = 1 + total // _FILE_BYTES
        total += tensor.numel() * tensor.element_size() // max(1, dist.get_world_size())
    return found


def write_counts(folder: Path, counts: Mapping[str, Tensor]) -> None:
    """Write how many updates some tensors have seen, where it differs from the others'."""
    if counts:
        save_file(dict(counts), folder / _COUNTS)


def read_moments(checkpoint: Path, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read moments by name: exp_avg/NAME, exp_avg_sq/NAME and step/NAME.

    Args:
        checkpoint: that has them.
        like: parameters by name; their moments are cut as they are. None: all are read whole.
    """
    folder = checkpoint / SHARDED_MOMENTS
    reader = HuggingFaceStorageReader(str(folder))
    sizes = {
        name: stored.size
        for name, stored in reader.read_metadata().state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata)
    }
    counts = folder / _COUNTS
    found = load_file(counts) if counts.is_file() else {}
    empty: dict[str, Tensor] = {}
    for name in sizes.keys() - found.keys():
        if like is None:
            empty[name] = torch.empty(sizes[name])
        elif (parameter := like.get(name.partition("/")[2])) is not None:
            empty[name] = torch.empty_like(parameter.detach())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that each worker reads on its own is meant
        load(empty, storage_reader=reader, no_dist=True)
    return found | empty
