"""Lazy weights: a model whose weights stay in their files until one is asked for.

Its parameters are placeholders: a single number, shown as a tensor of the right shape, so that
adapters can be put around them. Buffers are real.
"""

import contextlib
import errno
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from headway.base.errors import Cause, Remedy, UsageError
from headway.model.load import check_all_used, without_weights
from headway.model.safetensors_index import (
    check_folder,
    stored_tensors,
    weight_files,
)

TYPES = {  # number formats, as safetensors files call them
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class StoredTensors(Mapping[str, Tensor]):
    """The tensors in a folder's safetensors files, each read when it is asked for.

    Args:
        folder: of a model, or of adapters.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._places = {
            name: place for path in weight_files(folder) for name, place in _places(path).items()
        }

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        content = bytearray(place.num_bytes)
        with place.file.open("rb") as file:
            file.seek(place.begin)
            if file.readinto(content) != place.num_bytes:
                raise OSError(errno.EIO, f"{place.file.name} became shorter", str(place.file))
        if not content:
            return torch.zeros(place.shape, dtype=TYPES[place.kind])
        return torch.frombuffer(content, dtype=TYPES[place.kind]).reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class _Place:
    """Where a tensor is stored."""

    file: Path
    kind: str  # of its numbers, by the format's name
    shape: tuple[int, ...]
    begin: int  # byte in the file
    num_bytes: int


def _places(path: Path) -> dict[str, _Place]:
    """Where the tensors of a file are; its header was checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = msgspec.json.decode(file.read(length))
    header.pop("__metadata__", None)
    found: dict[str, _Place] = {}
    for name, one in header.items():
        begin, end = one["data_offsets"]
        if one["dtype"] not in TYPES:
            raise _other_names(path, [name])
        found[name] = _Place(
            path, one["dtype"], tuple(one["shape"]), 8 + length + begin, end - begin
        )
    return found


class LazyWeights:
    """Models that `from_folder` makes, and the weights behind their placeholders."""

    def __init__(self) -> None:
        self._behind: dict[int, tuple[nn.Parameter, Mapping[str, Tensor], str]] = {}

    def from_folder(self, path: Path, *, trust_remote_code: bool) -> nn.Module:
        """The model in a transformers folder, without its weights.

        Raises:
            UsageError: it cannot be made, or its weights are stored under other names.
        """
        stored = StoredTensors(path)
        with _without_weights():
            model = without_weights(path, trust_remote_code=trust_remote_code)
        self._put_placeholders(model, stored, path)
        return model

    def read(self, placeholder: nn.Parameter) -> Tensor | None:
        """The weight behind a placeholder, in fp32; None if it is none."""
        found = self._behind.get(id(placeholder))
        if found is None:
            return None
        _, stored, name = found
        weight = torch.empty(placeholder.shape)
        return weight.copy_(stored[name])

    def _put_placeholders(self, model: nn.Module, stored: StoredTensors, path: Path) -> None:
        made: dict[int, nn.Parameter] = {}
        named = dict(model.named_parameters())
        shapes = {name: shape for name, (_, shape) in stored_tensors(path).items()}
        unlike = [name for name, p in named.items() if shapes.get(name) != tuple(p.shape)]
        if unlike:
            raise _other_names(path, unlike)
        unused = shapes.keys() - model.state_dict().keys()
        check_all_used(path, {"missing_keys": (), "unexpected_keys": unused})
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in shapes:
                    buffer.copy_(stored[name])
        for name, p in named.items():
            empty = torch.zeros((), dtype=torch.float32).expand(p.shape)
            made[id(p)] = nn.Parameter(empty, requires_grad=p.requires_grad)
            self._behind[id(made[id(p)])] = made[id(p)], stored, name
        for module in model.modules():
            for name, own in list(module.named_parameters(recurse=False)):
                setattr(module, name, made[id(own)])


@contextlib.contextmanager
def _without_weights() -> Generator[None]:
    """Make modules whose parameters have no memory; their buffers do."""
    register = nn.Module.register_parameter

    def without(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, param)
        if param is not None and not param.is_meta:  # a tied one stays the same
            setattr(module, name, nn.Parameter(param.to("meta"), requires_grad=param.requires_grad))

    cast("Any", nn.Module).register_parameter = without
    try:
        yield
    finally:
        cast("Any", nn.Module).register_parameter = register


def _other_names(path: Path, names: list[str]) -> UsageError:
    return UsageError(
        f"the weights in {path} cannot be read part by part",
        cause=Cause.MODEL_UNSUPPORTED,
        have=f"{len(names)} tensors that its files hold under another name or shape, such as "
        f"{names[0]}",
        need="files with the tensors that transformers computes with; --reduction hsdp reads no "
        "others",
        remedies=(Remedy("--reduction tree", "each worker loads the whole model"),),
    )
