"""Adapters merged into their base model in fp32, one layer at a time where they allow it."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headway.base.disk import errors_from_rust
from headway.base.errors import Cause, UsageError
from headway.base.foreign.boundary import Boundary
from headway.export.output import check_room
from headway.export.reading.adapters import are_plain_lora, put_adapters
from headway.export.reading.tensor_source import Shapes, StoredSource, TensorSource
from headway.model.lazy_weights import LazyWeights, StoredTensors
from headway.model.load import from_folder, is_out_of_memory
from headway.model.safetensors_index import stored_tensors


def merged_source(
    base: Path, adapters: Path, scratch: Path, *, trust_remote_code: bool
) -> TensorSource:
    """The tensors of a base model with adapters merged into them, in fp32.

    Args:
        base: folder of the base model, not quantized.
        adapters: their folder.
        scratch: an empty folder; adapters that change more than single weights are merged in
            memory, and the model is written there first.
        trust_remote_code: run code that comes with the model.

    Raises:
        UsageError: the adapters do not fit the model, or a merged weight is not finite.
    """
    if are_plain_lora(adapters):
        try:
            return MergedSource(base, adapters, trust_remote_code=trust_remote_code)
        except UsageError as error:
            if error.cause is not Cause.MODEL_UNSUPPORTED:
                raise  # else: its files hold the weights under other names
    _merge_whole(base, adapters, scratch, trust_remote_code=trust_remote_code)
    return StoredSource(scratch)


class MergedSource:
    """The tensors of a base model, with plain LoRA merged into one when it is read.

    Args:
        base: folder of the base model.
        adapters: folder of the adapters.
        trust_remote_code: run code that comes with the model.

    Raises:
        UsageError: `MODEL_UNSUPPORTED`: not one at a time: an adapted weight is stored under
            another name, or is one tensor with a weight that is not adapted.
    """

    def __init__(self, base: Path, adapters: Path, *, trust_remote_code: bool) -> None:
        self._lazy = LazyWeights()
        self._adapters = adapters
        model = self._lazy.from_folder(base, trust_remote_code=trust_remote_code)
        tied = _tied_layers(model)
        self._stored = StoredTensors(base)
        self._headers = stored_tensors(base)
        self._changed = _adapted_layers(put_adapters(model, adapters))
        shared = any(one.get_base_layer() in tied for one in self._changed.values())
        if shared or not {f"{name}.weight" for name in self._changed} <= self._headers.keys():
            raise _not_one_at_a_time(adapters)

    @property
    def shapes(self) -> Shapes:
        """See `TensorSource`."""
        return {name: shape for name, (_, shape) in self._headers.items()}

    @property
    def kinds(self) -> Mapping[str, str]:
        """See `TensorSource`."""
        return {name: kind for name, (kind, _) in self._headers.items()}

    def base_parameters(self) -> list[nn.Parameter]:
        """Those of the layers that are adapted: placeholders, unless one is being merged."""
        return [p for m in self._changed.values() for p in m.get_base_layer().parameters()]

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """See `TensorSource`."""
        merged: dict[str, Tensor] = {}  # a layer's bias may come much later than its weight
        for name in self._headers:
            layer, _, _ = name.rpartition(".")
            if layer in self._changed and name not in merged:
                merged |= self._merge(layer)
            yield name, merged.pop(name) if name in merged else self._stored[name]

    def _merge(self, layer: str) -> dict[str, Tensor]:
        """The weight of a layer, and its bias, with its adapter merged into them."""
        module = self._changed[layer]
        inner: Any = module.get_base_layer()
        placeholders = dict(inner.named_parameters())
        for name, placeholder in placeholders.items():
            real = self._lazy.read(placeholder)
            assert real is not None, "all weights of the base model are in its files"
            setattr(inner, name, nn.Parameter(real, requires_grad=False))
        with torch.no_grad(), _not_merging(self._adapters)():
            module.merge(safe_merge=True)
        found = {f"{layer}.{name}": p.detach() for name, p in inner.named_parameters()}
        for name, placeholder in placeholders.items():
            setattr(inner, name, placeholder)
        module.merged_adapters.clear()
        return found


def _merge_whole(base: Path, adapters: Path, scratch: Path, *, trust_remote_code: bool) -> None:
    """Merge in memory, and write the model; what was one tensor may be two afterwards."""
    model: Any = from_folder(base, trust_remote_code=trust_remote_code)
    need = sum(p.numel() * p.element_size() for p in model.parameters())
    check_room(scratch, need, f"{base.name} with its adapters")
    tied = _tied_layers(model)
    adapted = put_adapters(model, adapters)
    with torch.no_grad(), _not_merging(adapters)(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied weights, which are apart by now
        if tied:
            _part(adapted, tied[0].weight)
        merged = adapted.merge_and_unload(safe_merge=True)
        head, embedding = merged.get_output_embeddings(), merged.get_input_embeddings()
        if tied:
            merged.config.tie_word_embeddings = torch.equal(head.weight, embedding.weight)
            if merged.config.tie_word_embeddings:
                head.weight = embedding.weight
    with errors_from_rust():
        merged.save_pretrained(scratch)


def _part(model: nn.Module, shared: nn.Parameter) -> None:
    """Give each module that has a tensor in common with another one a copy of its own."""
    owners: list[Any] = [
        module
        for module in model.modules()
        if any(p is shared for p in module.parameters(recurse=False))
    ]
    for owner in owners[1:]:
        owner.weight = nn.Parameter(shared.detach().clone(), requires_grad=False)


def _adapted_layers(model: Any) -> dict[str, Any]:
    """Name of a layer, as its model calls it without adapters -> the module around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    plain = model.get_base_model()
    return {
        name: module for name, module in plain.named_modules() if isinstance(module, BaseTunerLayer)
    }


def _tied_layers(model: Any) -> tuple[Any, ...]:
    """The embedding and the head, if their weight is one tensor."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    is_tied = head is not None and head.weight is embedding.weight
    return (embedding, head) if is_tied else ()


def _not_one_at_a_time(adapters: Path) -> UsageError:
    return UsageError(
        f"the adapters in {adapters} cannot be merged one at a time",
        cause=Cause.MODEL_UNSUPPORTED,
    )


def _not_merging(adapters: Path) -> Boundary:
    return Boundary(
        f"the adapters in {adapters} cannot be merged into their base model",
        cause=Cause.MODEL_INVALID,
        need="adapters that PEFT merges, with finite weights",
        remedies=(),
        passes=is_out_of_memory,
    )
