"""Linear layers with frozen weights in 4 bits: NF4 with double quantization.

Source: Dettmers et al. 2023, QLoRA (arXiv:2305.14314). bitsandbytes makes the codes and reads them;
what is computed with them is here, since its own layer repacks weights on processors.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from headway.base.errors import Cause, Remedy, UsageError
from headway.model.quantized.library import import_bitsandbytes

BLOCK = 64  # weights that share a scale


class Linear4Bit(nn.Linear):
    """A frozen linear layer whose weight is in 4 bits; computes in the format of its input.

    A model's bf16 twin shares it: nothing in it is trained or depends on a number format.

    Args:
        linear: its weight is quantized on `device`; its bias is taken as it is.
        device: where the codes are kept.
    """

    def __init__(self, linear: nn.Linear, device: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(device, torch.float32).contiguous()
        codes, self._scales = import_bitsandbytes().functional.quantize_4bit(
            weight, blocksize=BLOCK, quant_type="nf4", compress_statistics=True
        )
        self.weight = nn.Parameter(codes, requires_grad=False)
        bias = cast("nn.Parameter | None", linear.bias)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(..., in) -> (..., out)."""
        return cast("Tensor", _Product.apply(input, self))

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(out, in) the weight behind the codes."""
        scales = copy.copy(self._scales)
        scales.dtype = dtype
        return import_bitsandbytes().functional.dequantize_4bit(self.weight.detach(), scales)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Linear4Bit":
        """Itself."""
        memo[id(self)] = self
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linear4Bit":
        super()._apply(fn, recurse)
        self._scales.to(self.weight.device)
        return self


class _Product(torch.autograd.Function):
    """input weight' + bias; the weight is dequantized again for the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: Linear4Bit) -> Tensor:  # noqa: A002
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(input.dtype)
        return F.linear(input, layer.dense(input.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense(grad.dtype), None


def quantize_linears(model: nn.Module, device: str) -> int:
    """Put 4-bit layers in place of a model's linear layers but the head; returns their number.

    Raises:
        UsageError: it has none.
    """
    head: Any = cast("Any", model).get_output_embeddings()
    found = [(name, m) for name, m in model.named_modules() if type(m) is nn.Linear]
    inner = [(name, m) for name, m in found if m is not head]
    if not inner:
        raise _no_linears(model)
    for name, linear in inner:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Linear4Bit(linear, device))
    return len(inner)


def dequantize_linears(model: nn.Module) -> None:
    """Put fp32 layers in place of 4-bit ones, with the weights behind their codes."""
    for name, layer in list(quantized_layers(model)):
        linear: Any = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(layer.dense(torch.float32))
        linear.bias = layer.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, linear)


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, Linear4Bit]]:
    """The 4-bit layers of a model, with their names."""
    return ((name, m) for name, m in model.named_modules() if isinstance(m, Linear4Bit))


def _no_linears(model: nn.Module) -> UsageError:
    kind = str(getattr(getattr(model, "config", None), "model_type", "this model"))
    return UsageError(
        f"{kind} has no linear layers to put into 4 bits",
        cause=Cause.MODEL_UNSUPPORTED,
        have="layers that keep their weights in another way",
        need="torch.nn.Linear layers beside the head, as Llama, Qwen or Gemma have",
        remedies=(Remedy("--no-load-in-4bit --lora", "adapters on the weights as they are"),),
    )
