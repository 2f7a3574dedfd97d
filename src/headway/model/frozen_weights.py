"""Frozen weights as their files hold them, computed with in fp32 a layer at a time.

Most models are published in bf16. A matrix whose fp32 values all fit in 16 bits is held in 16, so
that a base under adapters never exists in fp32 as a whole. Where fp32 is asked for (the trials
before step 1), a layer's weights are widened while it runs; widening is exact, so every result is
that of a whole model in fp32, bit for bit. Vectors and buffers stay in fp32.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headway.model.load import from_folder, is_out_of_memory
from headway.model.quantized.layers import quantize_linears
from headway.model.safetensors_index import check_folder, stored_tensors

_IN_FILES = {"BF16": torch.bfloat16, "F16": torch.float16}
_FORMATS = "_get_dtype_plan"  # transformers' table of number formats: pattern of names -> format
_NARROW = (torch.bfloat16, torch.float16)


def from_folder_as_stored(path: Path, *, trust_remote_code: bool, device: str = "cpu") -> nn.Module:
    """The model in a transformers folder; matrices in 16 bits if that loses nothing.

    Args:
        path: of the folder.
        trust_remote_code: run code that comes with the model.
        device: where it will compute; on another one than the CPU, matrices are read from their
            files when they are moved there.

    Raises:
        UsageError: it cannot be loaded as a causal language model.
    """
    model = _read(path, trust_remote_code=trust_remote_code)
    _widen(model, matrices=False)
    _narrow(model, device)
    return model


def from_folder_in_4bit(
    path: Path, *, trust_remote_code: bool, device: str = "cpu", as_stored: bool = False
) -> nn.Module:
    """The model in a transformers folder: linear layers in 4 bits, everything else in fp32.

    Args:
        path: of the folder; its weights are read in the number format that they are stored in.
        trust_remote_code: run code that comes with the model.
        device: where the codes are made and kept.
        as_stored: other matrices are in 16 bits if that loses nothing.

    Raises:
        UsageError: it cannot be loaded, or has no linear layers.
    """
    model = _read(path, trust_remote_code=trust_remote_code)
    quantize_linears(model, device)
    _widen(model, matrices=not as_stored)
    if as_stored:
        _narrow(model, device)
    return model


def _read(path: Path, *, trust_remote_code: bool) -> nn.Module:
    """The model as its constructor makes it in fp32, with weights in 16 bits if all files are."""
    check_folder(path)
    kinds = {kind for kind, _ in stored_tensors(path).values()}
    dtype = _IN_FILES.get(kinds.pop()) if len(kinds) == 1 else None
    with _weights_in(dtype):
        return from_folder(path, trust_remote_code=trust_remote_code)


@contextmanager
def _weights_in(dtype: torch.dtype | None) -> Generator[None]:
    """Have transformers read all weights in a number format, into a model that is made in fp32.

    Asking for a model in that format would also round what its constructor computes: Gemma's scale
    of embeddings, for one. A transformers without this method reads fp32, which takes more memory.
    """
    from transformers import PreTrainedModel

    own = getattr(PreTrainedModel, _FORMATS, None)
    if dtype is None or own is None:
        yield
        return
    setattr(PreTrainedModel, _FORMATS, lambda _model, _dtype: {"*": dtype})
    try:
        yield
    finally:
        setattr(PreTrainedModel, _FORMATS, own)


def _widen(model: nn.Module, *, matrices: bool) -> None:
    """Put vectors and buffers in fp32, or matrices too."""
    for p in model.parameters():
        if p.dtype in _NARROW and (matrices or p.ndim < 2):
            p.data = p.data.float()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.float()


def _narrow(model: nn.Module, device: str) -> None:
    """Put fp32 matrices in 16 bits where that changes no value.

    Those that were read so are mapped from their files. A run on the CPU takes them out, since a
    file may be written over while it trains; what goes to another device is copied there.
    """
    for p in model.parameters():
        if p.dtype == torch.float32 and p.ndim >= 2:
            p.data = next((one for one in _rounded(p.data) if torch.equal(one.float(), p)), p.data)
        elif p.dtype in _NARROW and device == "cpu":
            p.data = p.data.clone()


def _rounded(weight: Tensor) -> Iterator[Tensor]:
    return (weight.to(dtype) for dtype in _NARROW)


@contextmanager
def shown_in_fp32(model: nn.Module) -> Generator[None]:
    """Show matrices in 16 bits as fp32 ones without memory, while adapters are put around them.

    PEFT makes adapters in the number format of what they adapt, and so would round their numbers.
    """
    held = [(p, p.data) for p in model.parameters() if p.dtype in _NARROW]
    try:
        for p, data in held:
            p.data = torch.zeros((), device=data.device).expand(data.shape)
        yield
    finally:
        for p, data in held:
            p.data = data


class WidenedLayers:
    """Lets a model with frozen matrices in 16 bits compute in fp32, one layer after the other.

    Only without gradients: a backward pass would find other weights than the forward pass used.

    Args:
        model: with fp32 weights, some frozen matrices of which may be in 16 bits.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers, self._beside = (
            [(module, [p for p in parameters if _is_held_narrow(p)]) for module, parameters in one]
            for one in _parts(model)
        )
        each = (*self._layers, *self._beside)
        self._hooks = [hook for part in each if part[1] for hook in self._hooks_of(*part)]

    def run(self, compute: Callable[[], Tensor]) -> Tensor:
        """Run what reads the weights.

        A model may look at the number format of its head before it calls it (Mamba). If it fails,
        what is beside its layers is widened for good, and it runs again.
        """
        try:
            return compute()
        except Exception as error:  # the model is third-party code
            narrow = [p for _, own in self._beside for p in own if p.dtype in _NARROW]
            if not self._hooks or not narrow or is_out_of_memory(error):
                raise
            for p in narrow:
                p.data = p.data.float()
        return compute()

    def end(self) -> None:
        """Compute with the weights as they are held."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def hold(self) -> None:
        """Settle for fp32: widen all weights for good."""
        self.end()
        for p in self._model.parameters():
            if _is_held_narrow(p):
                p.data = p.data.float()

    def _hooks_of(self, module: nn.Module, narrow: list[nn.Parameter]) -> Iterator[Any]:
        held: list[tuple[nn.Parameter, Tensor]] = []

        def widen(_module: nn.Module, _inputs: object) -> None:
            assert not torch.is_grad_enabled(), "a number format must be settled to train in it"
            for p in narrow:
                if p.dtype in _NARROW:  # not widened by a part around this one
                    held.append((p, p.data))
                    p.data = p.data.float()

        def narrow_again(_module: nn.Module, _inputs: object, _output: object) -> None:
            while held:
                p, data = held.pop()
                p.data = data

        yield module.register_forward_pre_hook(widen)
        yield module.register_forward_hook(narrow_again, always_call=True)


def _is_held_narrow(p: nn.Parameter) -> bool:
    return not p.requires_grad and p.dtype in _NARROW


_Parts = list[tuple[nn.Module, list[nn.Parameter]]]


def _parts(model: nn.Module) -> tuple[_Parts, _Parts]:
    """The layers of a model with all of their weights, and what is beside them with its own."""
    layers = [(layer, list(layer.parameters())) for stack in _stacks(model) for layer in stack]
    inside = {id(p) for _, parameters in layers for p in parameters}
    beside = [
        (module, [p for p in module.parameters(recurse=False) if id(p) not in inside])
        for module in model.modules()
    ]
    return layers, beside


def _stacks(model: nn.Module) -> Iterator[nn.ModuleList]:
    """Lists of layers that are in no other list."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _stacks(child)
